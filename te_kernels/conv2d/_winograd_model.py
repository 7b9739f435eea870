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
    """Modelled cycles of one core for the whole task."""
    t, b = geometry.task, geometry.blocking
    size = geometry.matrices.size
    tiles = geometry.blocks * geometry.register_tiles * b.tile
    input_channels = geometry.input_vectors * b.lanes
    vectors = geometry.channel_blocks * b.vectors

    accumulators = b.tile * b.vectors
    busy = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    ports = min(1.0, accumulators / (b.tile + b.vectors))  # two loads beside two multiply-adds
    startup = input_channels / (input_channels + 8.0)  # clearing, storing the accumulators, loop ends
    products = geometry.positions * tiles * vectors * input_channels / 2 / (busy * ports * startup)

    spills = 1.0 + size * size / machine.vector_registers
    bt, at = straight_line(geometry.matrices.bt), straight_line(geometry.matrices.at)
    per_input = bt.operations * 2 * size / 2 + size * size * spills
    per_output = at.operations * (size + b.m) / 2 + size * size * spills / 2 + b.m**2
    transforms = tiles * (geometry.input_vectors * per_input + vectors * per_output)

    weights = _FLOAT32_BYTES * geometry.positions * input_channels * vectors * b.lanes
    slice_bytes = _FLOAT32_BYTES * input_channels * b.vectors * b.lanes
    transformed = _FLOAT32_BYTES * geometry.positions * geometry.input_panel
    panel = _FLOAT32_BYTES * geometry.input_panel
    made = _FLOAT32_BYTES * geometry.positions * b.chunk * geometry.product_panel
    streamed = 0.0  # bytes from beyond L2
    if weights + geometry.workspace_bytes > machine.l2_bytes:
        streamed += weights * geometry.blocks
    if transformed + 2 * slice_bytes > machine.l2_bytes:
        streamed += geometry.blocks * transformed * (2 + geometry.chunks)
    if made + panel > machine.l2_bytes:
        streamed += 3 * geometry.blocks * geometry.chunks * made
    if panel + 2 * slice_bytes > machine.l2_bytes:
        streamed += geometry.blocks * transformed * geometry.channel_blocks
    stream = streamed / _STREAM_BYTES
    hidden = max(products + transforms, stream) + 0.2 * min(products + transforms, stream)
    map_bytes = _FLOAT32_BYTES * t.n * (t.c * t.h * t.w + t.k * t.oh * t.ow)
    return hidden + (map_bytes / _STREAM_BYTES if map_bytes > machine.l2_bytes else 0.0)
