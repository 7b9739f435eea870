"""Which blocks of rows and register tiles of ``_width_vector`` are worth measuring: a register and cache model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from te_kernels.conv2d._width_vector import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8
#: Of products of such factors.
_ROUNDING = 1e-9


def best(task: ConvTask, machine: Machine, source: str, count: int, kn2: bool = False) -> list[Geometry]:
    """The ``count`` geometries with the highest modelled throughput, no two with the same number of vectors."""
    blocks = sorted({*range(1, min(task.oh, 16) + 1), *(cdiv(task.oh, i) for i in (1, 2, 3, 4, 6))})
    unaligned = _unaligned(task, source, machine.vector_lanes)
    tiles = [
        (math.prod(_of_registers(channels, vectors, unaligned)), number, channels, vectors)
        for number, (channels, vectors) in enumerate(_register_tiles(task, machine))
    ]
    found: dict[int, tuple[float, int, int, Geometry]] = {}
    for limit, number, channels, vectors in sorted(tiles, reverse=True):
        if vectors in found and limit < (1 - _ROUNDING) * -found[vectors][0]:
            continue  # most tiles: whatever their blocks, they are behind
        for rows in blocks:
            geometry = Geometry(task, source, rows, channels, vectors, machine.vector_lanes, kn2)
            if source == "none" and not geometry.in_place:
                continue
            scored = (-_efficiency(geometry, machine), number, rows, geometry)
            if vectors not in found or scored[:3] < found[vectors][:3]:
                found[vectors] = scored
    return [geometry for *_, geometry in sorted(found.values(), key=lambda scored: scored[:3])][:count]


def _register_tiles(task: ConvTask, machine: Machine) -> Iterator[tuple[int, int]]:
    """(channels, vectors) whose accumulators and operands fit the registers."""
    per_group = task.k // task.groups
    for channels, vectors in itertools.product(range(1, min(per_group, 14) + 1), (1, 2, 3, 4, 5, 6, 8, 9, 12)):
        if channels * vectors + min(channels, vectors) + 1 > machine.vector_registers:
            continue
        if task.groups > 1 and per_group % channels:
            continue  # the loops over k split into groups and tiles only where the tiles divide
        yield channels, vectors


def _unaligned(task: ConvTask, source: str, lanes: int) -> float:
    """Loads that a vector of positions takes: a shifted one touches two cache lines."""
    shifts = task.s > 1 if source == "shifted" else source == "strips" and task.ow % lanes > 0
    return 1.7 if shifts else 1.0


def _of_registers(channels: int, vectors: int, unaligned: float) -> tuple[float, float]:
    """Modelled fractions of the FMA peak that latency and loads leave, whatever the block of rows."""
    accumulators = channels * vectors
    latency = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    # two loads a cycle beside two multiply-adds
    ports = min(1.0, accumulators / (unaligned * vectors + channels))
    return latency, ports


def _efficiency(geometry: Geometry, machine: Machine) -> float:
    """Modelled fraction of the FMA peak."""
    t = geometry.task
    positions = geometry.row_blocks * geometry.tiles * geometry.tile
    useful = t.oh * t.ow / positions * t.k / (geometry.channel_blocks * geometry.channels * t.groups)
    per_block = t.k // t.groups * t.r * t.s * t.c  # multiply-adds for each position
    source_bytes = geometry.source_bytes
    copied = source_bytes / 4 / (geometry.tiles * geometry.tile)
    copying = per_block / (per_block + 12.0 * copied + 24.0 * t.k * (not geometry.exact))
    cache = 0.8 if source_bytes > machine.l2_bytes // 2 else 1.0
    # the weights pass once for each block of rows: enough positions must share them
    weights = geometry.tiles * geometry.tile / (geometry.tiles * geometry.tile + 12.0)
    accumulators = geometry.channels * geometry.vectors
    unaligned = _unaligned(t, geometry.source, geometry.lanes)
    latency, ports = _of_registers(geometry.channels, geometry.vectors, unaligned)
    return useful * latency * ports * copying * cache * weights * accumulators / (accumulators + 1.0)
