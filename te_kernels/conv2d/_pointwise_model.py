"""Which register tiles of ``_pointwise`` are worth measuring."""

from __future__ import annotations

from te_kernels.conv2d._pointwise_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8
#: Cycles that a register takes to be cleared, to go through the epilogue and to be stored.
_STORE = 3.0
_MOST_VECTORS = 6
#: Input channels from which on the tiles are so alike that the model's best one is worth measuring.
_MANY_CHANNELS = 192


def best_tiles(task: ConvTask, machine: Machine, count: int) -> list[tuple[int, int]]:
    """The ``count`` (pixels, vectors) with the highest modelled throughput, no two with the same vectors."""
    if task.c // task.groups > _MANY_CHANNELS:
        count = 1
    best = _best(task, machine)
    ranked = sorted(best, key=lambda vectors: (-best[vectors][0], vectors))
    return [(best[vectors][1], vectors) for vectors in ranked[:count]]


def _best(task: ConvTask, machine: Machine) -> dict[int, tuple[float, int]]:
    """By the number of vectors: (efficiency, pixels)."""
    best: dict[int, tuple[float, int]] = {}
    group_vectors = Geometry(task, 1, 1, machine.vector_lanes).group_vectors
    for vectors in range(1, min(_MOST_VECTORS, group_vectors) + 1):
        for pixels in range(1, min(30, task.h * task.w) + 1):
            if pixels * vectors + vectors + (vectors > 1) > machine.vector_registers:
                break
            rank = _efficiency(Geometry(task, pixels, vectors, machine.vector_lanes)), pixels
            best[vectors] = max(best.get(vectors, (0.0, 0)), rank)
    return best


def _efficiency(geometry: Geometry) -> float:
    """Modelled fraction of the FMA peak."""
    g = geometry
    accumulators = g.pixels * g.vectors
    useful = g.image_pixels / (g.image_tiles * g.pixels) * g.per_group / (g.vector_blocks * g.vectors * g.lanes)
    latency = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    ports = min(1.0, accumulators / (g.pixels + g.vectors))  # two loads a cycle beside two multiply-adds
    products = accumulators * g.reduction / 2 / (latency * ports)
    return useful * accumulators * g.reduction / 2 / (products + _STORE * accumulators)
