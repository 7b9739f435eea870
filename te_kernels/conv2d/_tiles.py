"""Which register tiles are worth measuring: a register and cache model instead of a search."""

from __future__ import annotations

import itertools

from te_kernels.conv2d._output_stationary import Geometry, Tile
from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8


def best_tiles(task: ConvTask, machine: Machine, flat: bool, count: int) -> list[Tile]:
    """The ``count`` tiles with the highest modelled throughput, no two of the same shape of accumulators."""
    lanes = machine.vector_lanes
    scored: list[tuple[float, tuple[int, int, int]]] = []
    widest = task.oh * task.ow if flat else task.ow
    for vectors, rows in itertools.product((1, 2, 3, 4, 6), (1, 2, 3, 4, 7)):
        if (flat and rows > 1) or rows > task.oh or (vectors - 1) * lanes >= task.k // task.groups:
            continue
        for pixels in range(1, min(widest, 30) + 1):
            accumulators = rows * pixels * vectors
            if accumulators + vectors + (vectors > 1) > machine.vector_registers:
                continue
            tile = Tile(rows, pixels, vectors, lanes)
            geometry = Geometry(task, tile, flat)
            if flat and geometry.width % pixels:
                continue  # a flat tile that overshoots would read past the end of the input
            scored.append((_efficiency(geometry, machine), (rows, pixels, vectors)))
    scored.sort(key=lambda item: (-item[0], item[1]))
    chosen: list[Tile] = []
    seen: set[int] = set()
    for _, (rows, pixels, vectors) in scored:
        if vectors not in seen:  # the channel vectors are what the model predicts least well: vary them
            seen.add(vectors)
            chosen.append(Tile(rows, pixels, vectors, lanes))
        if len(chosen) == count:
            break
    return chosen


def _efficiency(geometry: Geometry, machine: Machine) -> float:
    """Modelled fraction of the FMA peak."""
    task, tile = geometry.task, geometry.tile
    accumulators = tile.rows * tile.pixels * tile.vectors
    positions = geometry.row_tiles * tile.rows * geometry.pixel_tiles * tile.pixels
    channels = geometry.channel_blocks * tile.vectors * tile.lanes * task.groups
    useful = task.oh * task.ow / positions * task.k / channels
    latency = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    # two loads a cycle beside two multiply-adds: a folded broadcast (vectors == 1) is a load as well
    loads = (tile.rows * tile.pixels + tile.vectors) / accumulators
    ports = min(1.0, 1.0 / loads)
    startup = accumulators / (accumulators + 1.0)
    slice_bytes = 4 * (task.c // task.groups) * task.r * task.s * tile.vectors * tile.lanes
    cache = 1.0 if slice_bytes <= machine.l2_bytes // 2 else 0.8
    return useful * latency * ports * startup * cache
