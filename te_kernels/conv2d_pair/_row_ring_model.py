"""Which instances of the kernels by rows (``_row_ring``) are worth measuring."""

from __future__ import annotations

from te_kernels.conv2d._pointwise_model import channel_cycles
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PairTask, PoolTask
from te_kernels.tiling import cdiv

_MOST_VECTORS, _MOST_COLUMNS, _INSTANCES = 4, 8, 2
#: Units of work that a thread deals with evenly enough, and the fewest output rows worth a band of their own.
_MANY_UNITS, _BAND_ROWS = 8, 4


def best_tiles(task: PairTask, machine: Machine, ring_bytes: float) -> list[tuple[int, int]]:
    """(pixels, vectors) of the register tiles with the highest modelled throughput, no two with the same vectors.

    ``ring_bytes``: the most for the ring of several vectors.
    """
    one = Geometry(task, 1, 1, 1, machine.vector_lanes, 1)
    blocks, width = one.chunks, one.first.ow
    found = []
    for vectors in range(1, min(_MOST_VECTORS, blocks) + 1):
        ring = 4 * Geometry(task, 1, vectors, 1, machine.vector_lanes, 1).ring_floats
        if blocks % vectors or (vectors > 1 and ring > ring_bytes):
            continue
        most = (machine.vector_registers - vectors - (vectors > 1)) // vectors
        efficiency, pixels = max((_efficiency(width, p, vectors), p) for p in range(1, min(most, width) + 1))
        found.append((efficiency, pixels, vectors))
    ranked = sorted(found, key=lambda tile: (-tile[0], -tile[1] * tile[2]))
    return [(pixels, vectors) for _, pixels, vectors in ranked[:_INSTANCES]]


def _efficiency(width: int, pixels: int, vectors: int) -> float:
    """Modelled fraction of the FMA peak of rows of ``width`` pixels."""
    useful = width / (cdiv(width, pixels) * pixels)
    return useful * pixels * vectors / 2 / channel_cycles(pixels, vectors)


def columns(second: ConvTask | PoolTask) -> int:
    """Outputs of a register tile of the windows: as many as a window's weights leave room for, evenly."""
    width = second.ow
    return min(range(1, min(width, _MOST_COLUMNS) + 1), key=lambda c: (cdiv(width, c) * c / width + 0.7 / c, -c))


def bands(second: ConvTask | PoolTask, machine: Machine, vectors: int) -> int:
    """One for each thread where the chunks of channels do not occupy all threads alike and the rows suffice."""
    units = second.n * cdiv(second.c, vectors * machine.vector_lanes)
    if units % machine.threads == 0 or units >= _MANY_UNITS * machine.threads:
        return 1
    return machine.threads if second.oh >= _BAND_ROWS * machine.threads else 1
