"""Which blocks of rows and register tiles of ``_width_vector`` are worth measuring: a register and cache model."""

from __future__ import annotations

import itertools

from te_kernels.conv2d._width_vector import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8


def best(task: ConvTask, machine: Machine, source: str, count: int, kn2: bool = False) -> list[Geometry]:
    """The ``count`` geometries with the highest modelled throughput, no two with the same number of vectors."""
    scored: list[tuple[float, Geometry]] = []
    per_group = task.k // task.groups
    for channels, vectors in itertools.product(range(1, min(per_group, 14) + 1), (1, 2, 3, 4, 5, 6, 8, 9, 12)):
        if channels * vectors + min(channels, vectors) + 1 > machine.vector_registers:
            continue
        if task.groups > 1 and per_group % channels:
            continue  # the loops over k split into groups and tiles only where the tiles divide
        for rows in sorted({*range(1, min(task.oh, 16) + 1), *(cdiv(task.oh, i) for i in (1, 2, 3, 4, 6))}):
            geometry = Geometry(task, source, rows, channels, vectors, machine.vector_lanes, kn2)
            if source == "none" and not geometry.in_place:
                continue
            scored.append((_efficiency(geometry, machine), geometry))
    scored.sort(key=lambda item: -item[0])
    chosen: dict[int, Geometry] = {}
    for _, geometry in scored:
        chosen.setdefault(geometry.vectors, geometry)
    return list(chosen.values())[:count]


def _efficiency(geometry: Geometry, machine: Machine) -> float:
    """Modelled fraction of the FMA peak."""
    t = geometry.task
    accumulators = geometry.channels * geometry.vectors
    positions = geometry.row_blocks * geometry.tiles * geometry.tile
    useful = t.oh * t.ow / positions * t.k / (geometry.channel_blocks * geometry.channels * t.groups)
    latency = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    # two loads a cycle beside two multiply-adds; a shifted vector touches two cache lines
    shifts = t.s > 1 if geometry.source == "shifted" else geometry.source == "strips" and t.ow % geometry.lanes > 0
    unaligned = 1.7 if shifts else 1.0
    ports = min(1.0, accumulators / (unaligned * geometry.vectors + geometry.channels))
    per_block = t.k // t.groups * t.r * t.s * t.c  # multiply-adds for each position
    copied = geometry.source_bytes / 4 / (geometry.tiles * geometry.tile)
    copying = per_block / (per_block + 12.0 * copied + 24.0 * t.k * (not geometry.exact))
    cache = 1.0
    if geometry.source_bytes > machine.l2_bytes // 2:
        cache = 0.8
    # the weights pass once for each block of rows: enough positions must share them
    weights = geometry.tiles * geometry.tile / (geometry.tiles * geometry.tile + 12.0)
    return useful * latency * ports * copying * cache * weights * accumulators / (accumulators + 1.0)
