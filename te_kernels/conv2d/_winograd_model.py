"""Which blockings of a Winograd convolution are worth measuring: a register, cache and instruction model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from te_kernels.conv2d._winograd_geometry import Blocking, Geometry, cdiv
from te_kernels.conv2d._winograd_linear import straight_line
from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8
#: Bytes a cycle that one core streams from beyond L2.
_STREAM_BYTES = 10.0
#: Of the smaller one of arithmetic and streaming, what the other does not hide.
_EXPOSED = 0.3
#: Channels' worth of time that a register tile takes to start and to end.
_STARTUP = 6.0
_FLOAT32_BYTES = 4


def best_blockings(task: ConvTask, machine: Machine, sizes: tuple[int, ...], count: int) -> list[Blocking]:
    """The ``count`` fastest by the model: the best overall, then those of another size, block or chunk."""
    scored = sorted(
        ((cycles(Geometry(task, blocking), machine), dataclasses.astuple(blocking)) for blocking in
         _blockings(task, machine, sizes)),
    )  # fmt: skip
    if not scored:
        return []
    best = scored[0][0]
    chosen: list[Blocking] = []
    for cost, knobs in scored:
        blocking = Blocking(*knobs)
        fresh = all(
            blocking.m != other.m or max(blocking.block, other.block) > 1.5 * min(blocking.block, other.block)
            for other in chosen
        )
        if fresh and cost <= 1.5 * best:
            chosen.append(blocking)
        if len(chosen) == count:
            break
    return chosen


def _blockings(task: ConvTask, machine: Machine, sizes: tuple[int, ...]) -> Iterator[Blocking]:
    lanes = machine.vector_lanes
    output_vectors = cdiv(task.k, lanes)
    for m in sizes:
        tiles = task.n * cdiv(task.oh, m) * cdiv(task.ow, m)
        for vectors in (1, 2, 3, 4):
            if vectors > output_vectors:
                continue
            widest = (machine.vector_registers - vectors - 1) // vectors
            channel_blocks = cdiv(output_vectors, vectors)
            seen = set()
            for limit in (widest, 2 * widest, 4 * widest, tiles):
                block = cdiv(tiles, cdiv(tiles, limit))  # blocks of even size
                tile = cdiv(block, cdiv(block, widest))  # of register tiles of even size
                if block in seen or (block < tiles and cdiv(tiles, block) < machine.threads):
                    continue
                seen.add(block)
                for chunk in {1, min(4, channel_blocks), channel_blocks}:
                    if block == tiles and cdiv(channel_blocks, chunk) < min(machine.threads, channel_blocks):
                        chunk = cdiv(channel_blocks, machine.threads)
                    yield Blocking(m, tile, vectors, lanes, block, chunk)


def cycles(geometry: Geometry, machine: Machine) -> float:
    """Modelled cycles of the slowest thread."""
    b = geometry.blocking
    tiles = geometry.blocks * geometry.register_tiles * b.tile
    vectors = geometry.chunks * b.chunk * b.vectors
    arithmetic = _products(geometry, tiles) + _transforms(geometry, tiles, vectors, machine)
    stream = _streamed_bytes(geometry, machine) / _STREAM_BYTES
    total = max(arithmetic, stream) + _EXPOSED * min(arithmetic, stream)
    parts = geometry.blocks if geometry.blocks > 1 else geometry.chunks
    return total * cdiv(parts, machine.threads) / parts


def _products(geometry: Geometry, tiles: int) -> float:
    b = geometry.blocking
    accumulators = b.tile * b.vectors
    busy = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    ports = min(1.0, accumulators / (b.tile + b.vectors))  # two loads beside two multiply-adds
    channels = geometry.reduced_vectors * b.lanes
    started = channels / (channels + _STARTUP)  # clearing and storing the accumulators, loop ends
    blocks = geometry.task.groups * geometry.channel_blocks * b.vectors
    return geometry.positions * tiles * blocks * channels / 2 / (busy * ports * started)


def _transforms(geometry: Geometry, tiles: int, vectors: int, machine: Machine) -> float:
    """Arithmetic at two operations a cycle, stores at one; patches larger than the registers are stored twice."""
    rows, columns = geometry.rows, geometry.columns
    positions, outputs = geometry.positions, rows.m * columns.m
    spilled = max(0, positions - machine.vector_registers // 2)
    left, right = straight_line(rows.bt).operations, straight_line(columns.bt).operations
    per_input = (left * columns.size + right * rows.size) / 2 + positions + spilled
    left, right = straight_line(rows.at).operations, straight_line(columns.at).operations
    per_output = (left * columns.size + right * rows.m) / 2 + positions / 2 + outputs + spilled
    return tiles * (geometry.input_vectors * per_input + vectors * per_output)


def _streamed_bytes(geometry: Geometry, machine: Machine) -> float:
    """Bytes that come from, or go, beyond L2."""
    t, b = geometry.task, geometry.blocking
    slice_bytes = _FLOAT32_BYTES * geometry.reduced_vectors * b.lanes * b.vectors * b.lanes
    panel = _FLOAT32_BYTES * geometry.input_panel
    transformed = geometry.positions * panel
    made = _FLOAT32_BYTES * geometry.positions * b.chunk * geometry.product_panel
    total = 0.0
    if geometry.weight_bytes + geometry.workspace_bytes > machine.l2_bytes:
        total += geometry.blocks * geometry.weight_bytes
    if transformed + made + 2 * slice_bytes > machine.l2_bytes:
        total += geometry.blocks * transformed * (1 + geometry.chunks)
        total += 2 * geometry.blocks * geometry.chunks * made
    if panel + 2 * slice_bytes > machine.l2_bytes:
        total += geometry.blocks * transformed * (geometry.channel_blocks - 1)
    map_bytes = _FLOAT32_BYTES * t.n * (t.c * t.h * t.w + 2 * t.k * t.oh * t.ow)  # stores read the line first
    if map_bytes > machine.l2_bytes:
        total += map_bytes
    return total
