"""How long a tiled product takes: blocks that fit a multiprocessor, rounds of blocks, latency of a slice.

A model for ranking tiles, not for promises. For each multiprocessor and slice of k it takes the largest of

    the multiply-adds of all resident blocks over the lanes, with the share of issue slots that loads take,
    the reads of the slice from memory or L2 over the share of the bandwidth,
    the latency of a copy to shared memory, as far as slices in flight do not hide it,

times the slices, times the rounds that it takes to run all blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from te_kernels.cuda._base import LAUNCH_S, STREAMING, ceil_div
from te_kernels.cuda._gemm import RUN, Product, Tile
from te_kernels.gpu import Gpu

#: Cycles from the request of a slice to its use, and of a barrier.
_LATENCY, _BARRIER = 600.0, 40.0
#: Registers of a thread beside accumulators and operands: addresses, counters.
_OVERHEAD_REGISTERS = 36
_MOST_REGISTERS = 255
#: L2 serves about twice the bandwidth of the memory.
_L2_SPEEDUP = 2.0

#: Tiles worth considering: bm, bn, bk, tm, tn.
_SHAPES = (
    (128, 128, 16, 8, 8), (128, 64, 16, 8, 8), (64, 128, 16, 8, 8), (64, 64, 16, 8, 4), (64, 64, 16, 4, 4),
    (128, 32, 16, 8, 4), (32, 128, 16, 4, 8), (64, 32, 16, 4, 4), (32, 64, 16, 4, 4), (32, 32, 32, 4, 4),
    (32, 32, 32, 2, 4), (16, 64, 32, 2, 4), (16, 32, 32, 2, 4),
)  # fmt: skip
_STAGES = (1, 3)
_SPLITS = (1, 2, 4, 8, 16)


def registers(tile: Tile) -> int:
    """Registers of a thread."""
    return tile.tm * tile.tn + RUN * tile.tm + tile.tn + _OVERHEAD_REGISTERS


def resident_blocks(tile: Tile, machine: Gpu) -> int:
    """Blocks that one multiprocessor holds at a time; 0 when the tile does not fit."""
    used = registers(tile)
    if used > _MOST_REGISTERS or tile.shared_bytes > machine.shared_bytes or tile.threads > machine.max_threads:
        return 0
    by_shared = machine.multiprocessor_shared_bytes // (tile.shared_bytes + 1024)
    return min(
        machine.multiprocessor_blocks, by_shared,
        machine.registers // (used * tile.threads), machine.multiprocessor_threads // tile.threads,
    )  # fmt: skip


def seconds(product: Product, tile: Tile, machine: Gpu, element_bytes: int = 4) -> float:
    """Modelled time of the kernel; infinite when the tile does not fit."""
    fitting = resident_blocks(tile, machine)
    if fitting == 0:
        return math.inf
    m, n, k = product.padded(tile)
    blocks = m // tile.bm * (n // tile.bn) * product.batch * product.splits
    resident = min(fitting, ceil_div(blocks, machine.multiprocessors))
    rounds = blocks / (machine.multiprocessors * resident)
    rounds = math.ceil(rounds) if rounds < 4 else rounds + 0.5  # long queues balance themselves
    slices = k // product.splits // tile.bk
    per_k = tile.tm * tile.tn * RUN
    issue = per_k / (per_k + 2 * (tile.tm + tile.tn) + 8)
    warps = resident * tile.threads / machine.warp
    busy = min(1.0, warps / 8)
    multiply = resident * tile.bm * tile.bn * tile.bk / (machine.fma_lanes * issue * busy)
    active = min(machine.multiprocessors, blocks)
    share = machine.memory_bytes_per_s * _L2_SPEEDUP / max(active, machine.multiprocessors / 2)
    reads = resident * (tile.bm + tile.bn) * tile.bk * element_bytes / share * machine.clock_hz
    # without a pipeline a block waits for its slice, then multiplies, while other blocks use the lanes
    latency = _BARRIER + (_LATENCY / (tile.stages - 1) if tile.stages > 1 else _LATENCY + multiply / resident)
    cycles = rounds * (slices * max(multiply, reads, latency) + 2 * _LATENCY)
    weights = element_bytes * product.batch * (product.m + product.n) * product.k / machine.memory_bytes_per_s
    total = LAUNCH_S + max(cycles / machine.clock_hz, weights / STREAMING)
    if product.splits > 1:
        total += LAUNCH_S + 2 * product.partial_bytes(tile) / (machine.memory_bytes_per_s * _L2_SPEEDUP * STREAMING)
    return total


def tiles(machine: Gpu) -> Iterable[tuple[Tile, int]]:
    """(tile, splits) worth considering on this device."""
    for shape in _SHAPES:
        for stages in _STAGES if machine.mcpu >= "sm_80" else (1,):
            for splits in _SPLITS:
                yield Tile(*shape, stages), splits


def copies_evenly(tile: Tile, a_vector: int, b_vector: int) -> bool:
    """Whether all threads copy alike: each slice is whole vectors a thread."""
    return not (tile.bm * tile.bk % (tile.threads * a_vector) or tile.bk * tile.bn % (tile.threads * b_vector))


def enough_slices(product: Product, tile: Tile) -> bool:
    """Whether every part of k fills the pipeline."""
    return product.padded(tile)[2] // product.splits // tile.bk >= tile.stages
