"""Which register tiles are worth measuring: a register and cache model instead of a search."""

from __future__ import annotations

import itertools

from te_kernels.conv2d._flat import flattened
from te_kernels.conv2d._output_geometry import Geometry, Tile
from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8


def best_tiles(task: ConvTask, machine: Machine, count: int) -> list[tuple[Tile, bool]]:
    """The ``count`` (tile, flat) with the highest modelled throughput, no two with the same channel vectors.

    A flat tile runs over the H*W pixels of a 1x1 convolution (see ``_flat``); it must tile them exactly, or else the
    whole map would be copied.
    """
    lanes = machine.vector_lanes
    scored: list[tuple[float, tuple[int, int, int], bool]] = []
    for flat in (True, False) if task.pointwise and task.oh > 1 else (False,):
        view = flattened(task) if flat else task
        for vectors, rows in itertools.product((1, 2, 3, 4, 6), (1, 2, 3, 4, 7)):
            if rows > view.oh or (vectors - 1) * lanes >= task.k // task.groups:
                continue
            for pixels in range(1, min(view.ow, 30) + 1):
                accumulators = rows * pixels * vectors
                if accumulators + vectors + (vectors > 1) > machine.vector_registers or (flat and view.ow % pixels):
                    continue
                geometry = Geometry(view, Tile(rows, pixels, vectors, lanes))
                scored.append((_efficiency(geometry, machine), (rows, pixels, vectors), flat))
    scored.sort(key=lambda item: (-item[0], item[1]))
    chosen: list[tuple[Tile, bool]] = []
    seen: set[int] = set()
    for _, (rows, pixels, vectors), flat in scored:
        if vectors not in seen:  # the channel vectors are what the model predicts least well: vary them
            seen.add(vectors)
            chosen.append((Tile(rows, pixels, vectors, lanes), flat))
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
    cache = 1.0 if slice_bytes <= machine.l2_bytes * 3 // 4 else 0.8
    # a 1x1 kernel reuses each copied input only once for each output channel: the copy is not free
    copy = 1.0 / (1.0 + 8.0 * 9 / (task.k // task.groups * task.r * task.s)) if geometry.needs_copy else 1.0
    return useful * latency * ports * startup * cache * copy
