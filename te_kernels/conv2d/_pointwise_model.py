"""Which register tiles of ``_pointwise`` are worth measuring."""

from __future__ import annotations

from te_kernels.conv2d._pointwise_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8
#: Cycles that a register takes to be cleared, to go through the epilogue and to be stored.
_STORE = 3.0
#: Loads a cycle, of the two that two load ports could do: seen where a multiply-add needs one of its own.
_LOADS = 1.8
#: Cycles that every load takes on top, where multiply-adds and loads do not quite run side by side: of tiles that keep
#: the multipliers as busy, those with the fewest loads are the fastest on Emerald Rapids (6 pixels by 4 vectors take 5
#: to 16 % less time than 14 by 2). On 17 layers in two layouts, the best tile by the model is 3 % behind the best of
#: all tiles that fill the registers; 9 % without. Zen was not measured with it.
_LOAD = 0.1
#: Bytes a cycle of weights that do not stay in L1: tiles of 3 pixels by 7 vectors hide them, 2 by 7 do not (512x13x13).
_L2_BYTES = 48.0
_MOST_VECTORS = 8
#: Another tile where the output channels are one vector only: 32x112x112 -> 16 takes 101 us in place of 118.
_FEWER_PIXELS = 16
#: Input channels from which on the tiles are so alike that the model's best one is worth measuring.
_MANY_CHANNELS = 192
#: Processors that run the longest vectors in two halves. A kernel with vectors of half the length is as fast there, and
#: wastes fewer lanes on 24 channels: 144x56x56 -> 24 takes 186 us in place of 248 (Zen 4), at 98 % of the FMA peak.
_IN_HALVES = ("znver4",)
#: How many times the lanes whole vectors must take: they need fewer loads and instructions.
_WORTH_HALVING = 1.1


def best_tiles(task: ConvTask, machine: Machine, count: int, halves: bool = False) -> list[tuple[int, int, int]]:
    """The ``count`` (pixels, vectors, lanes) with the highest modelled throughput, no two with the same vectors.

    With ``halves``, the best tile of half as long vectors joins them, where these multiply as fast and waste less.
    """
    if task.c // task.groups > _MANY_CHANNELS:
        count = 1
    lanes = machine.vector_lanes
    tiles = _ranked(task, machine, lanes)[:count]
    if count > 1 and _vectors(task, lanes) == 1 and tiles[0][0] > _FEWER_PIXELS:  # there is nothing else to vary
        tiles.append((_FEWER_PIXELS, 1, lanes))
    wasteful = 2 * _vectors(task, lanes) > _WORTH_HALVING * _vectors(task, lanes // 2)
    if halves and machine.mcpu in _IN_HALVES and wasteful:
        tiles += _ranked(task, machine, lanes // 2)[:1]
    return tiles


def _vectors(task: ConvTask, lanes: int) -> int:
    return Geometry(task, 1, 1, lanes).group_vectors


def _ranked(task: ConvTask, machine: Machine, lanes: int) -> list[tuple[int, int, int]]:
    best = _best(task, machine, lanes)
    ranked = sorted(best, key=lambda vectors: (-best[vectors][0], vectors))
    return [(best[vectors][1], vectors, lanes) for vectors in ranked]


def _best(task: ConvTask, machine: Machine, lanes: int) -> dict[int, tuple[float, int]]:
    """By the number of vectors: (efficiency, pixels)."""
    best: dict[int, tuple[float, int]] = {}
    group_vectors = _vectors(task, lanes)
    for vectors in range(1, min(_MOST_VECTORS, group_vectors) + 1):
        for pixels in range(1, min(30, task.h * task.w) + 1):
            if pixels * vectors + vectors + (vectors > 1) > machine.vector_registers:
                break
            rank = _efficiency(Geometry(task, pixels, vectors, lanes), machine), pixels
            best[vectors] = max(best.get(vectors, (0.0, 0)), rank)
    return best


def channel_cycles(pixels: int, vectors: int) -> float:
    """Cycles in which a register tile takes in an input channel whose weights lie in L1."""
    accumulators = pixels * vectors
    latency = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    return max(accumulators / 2 / latency, (pixels + vectors) / _LOADS)


def _efficiency(geometry: Geometry, machine: Machine) -> float:
    """Modelled fraction of the FMA peak."""
    g = geometry
    accumulators = g.pixels * g.vectors
    useful = g.image_pixels / (g.image_tiles * g.pixels) * g.per_group / (g.vector_blocks * g.vectors * g.lanes)
    weights = 4 * g.vectors * g.lanes
    streamed = weights / _L2_BYTES if weights * g.reduction > machine.l1_bytes // 2 else 0.0
    a_channel = max(channel_cycles(g.pixels, g.vectors), streamed)
    if not machine.mcpu.startswith("znver"):
        a_channel += _LOAD * (g.pixels + g.vectors)
    return useful * accumulators * g.reduction / 2 / (a_channel * g.reduction + _STORE * accumulators)
