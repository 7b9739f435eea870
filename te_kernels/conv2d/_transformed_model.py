"""Which blockings of a convolution by transformed tiles are worth measuring: registers, caches, instructions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from te_kernels.conv2d._tile_transform import TileTransform
from te_kernels.conv2d._transformed_geometry import Blocking, Geometry
from te_kernels.machine import Machine
from te_kernels.streaming import streaming
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv

Transform = TypeVar("Transform", bound=TileTransform)

#: Fused multiply-adds in flight needed to hide their latency: 2 pipes x 4 cycles.
_FMAS_IN_FLIGHT = 8
#: Bytes a cycle from L2 to L1, not hidden. This and the constants below were fitted to 200 measurements on a Zen 5 core
#: (3.8 GHz, 1 MB of L2): the model's standard deviation is 4 %, its best choice loses at most 6 %.
_L2_BYTES = 64.0
#: Of the smaller one of two overlapping times, what the other does not hide.
_EXPOSED = 0.1
#: Channels' worth of time that a register tile takes to start and to end.
_STARTUP = 4.0
#: Candidates slower than this by the model are not worth measuring.
_WORTH_MEASURING = 1.2
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Costs:
    """What differs between processors beside the rates of :mod:`te_kernels.streaming`; Zen's by default.

    ``transform_stalls``: what dependences and address arithmetic add to the instructions of the transforms, as a
    factor. ``exposed_weights``: what the products do not hide of the weights' streaming, as a part of it.
    """

    transform_stalls: float = 1.6
    exposed_weights: float = _EXPOSED


ZEN = Costs()


class Weights(Enum):
    """Where the weights come from."""

    L3_UNDISTURBED = "L3, at its full bandwidth"
    L3 = "L3"
    MEMORY = "memory"


@dataclass(frozen=True)
class Choice(Generic[Transform]):
    """A blocking worth measuring, and its modelled time with the weights where it was chosen for."""

    transform: Transform
    blocking: Blocking
    cycles: float


def best_blockings(
    task: ConvTask,
    machine: Machine,
    transforms: Sequence[Transform],
    count: int,
    each: int = 1,
    geometry: type[Geometry] = Geometry,
) -> list[Choice[Transform]]:
    """The ``count`` fastest by the model, at most ``each`` of one transform: what the model predicts least well.

    Weights may lie in L3 or, in a network with many, in memory. Larger tiles save products but have larger weights, so
    both cases give candidates, up to ``count`` each.
    """
    chosen: dict[tuple[Transform, Blocking], Choice[Transform]] = {}
    for weights in (Weights.L3, Weights.MEMORY):
        full = len(chosen) + count
        for choice in ranked(task, machine, transforms, weights, geometry):
            taken = sum(other == choice.transform for other, _ in chosen)
            if taken < each and len(chosen) < full:
                chosen.setdefault((choice.transform, choice.blocking), choice)
    return list(chosen.values())


def ranked(
    task: ConvTask,
    machine: Machine,
    transforms: Sequence[Transform],
    weights: Weights,
    geometry: type[Geometry] = Geometry,
    costs: Costs = ZEN,
) -> Sequence[Choice[Transform]]:
    """All blockings worth measuring, the fastest by the model first."""
    return _ranked(task, machine, tuple(transforms), weights, geometry, costs)  # type: ignore[arg-type]  # classes are hashable


@functools.lru_cache(maxsize=32)  # the variants that differ in their layouts ask one after the other
def _ranked(
    task: ConvTask,
    machine: Machine,
    transforms: tuple[Transform, ...],
    weights: Weights,
    geometry: type[Geometry],
    costs: Costs,
) -> tuple[Choice[Transform], ...]:
    choices = [
        Choice(transform, blocking, cycles(geometry(task, transform, blocking), machine, weights, costs))
        for transform in transforms
        for blocking in _blockings(geometry, task, machine, transform)
    ]
    limit = _WORTH_MEASURING * min((choice.cycles for choice in choices), default=0.0)
    worth = [choice for choice in choices if choice.cycles <= limit]
    order = {transform: place for place, transform in enumerate(transforms)}
    return tuple(sorted(worth, key=lambda c: (c.cycles, order[c.transform], dataclasses.astuple(c.blocking))))


def direct_cycles(task: ConvTask, machine: Machine) -> float:
    """What a direct convolution takes at best: two multiply-adds of vectors a cycle."""
    return task.flops / (4 * machine.vector_lanes) / machine.threads


def _blockings(
    geometry: type[Geometry], task: ConvTask, machine: Machine, transform: TileTransform
) -> Iterator[Blocking]:
    lanes = machine.vector_lanes
    for vectors in (1, 2, 3):
        whole = geometry(task, transform, Blocking(1, vectors, lanes, 1, 1))
        tiles, channel_blocks = whole.tiles, whole.channel_blocks
        if vectors > whole.output_vectors:
            continue
        widest = (machine.vector_registers - vectors - 1) // vectors
        limits = (min(limit, tiles) for limit in (widest, 2 * widest, 4 * widest, tiles))
        for block in sorted({cdiv(tiles, cdiv(tiles, limit)) for limit in limits}):  # blocks of even size
            tile = cdiv(block, cdiv(block, widest))  # of register tiles of even size
            chunk_limit = channel_blocks
            if block == tiles:  # one block: the chunks are dealt to the threads
                chunk_limit = cdiv(channel_blocks, cdiv(machine.threads, task.groups))
            few = cdiv(channel_blocks, cdiv(channel_blocks, min(4, chunk_limit)))  # even chunks: none is padded to 4
            for chunk in sorted({1, few, chunk_limit}):
                yield Blocking(tile, vectors, lanes, block, chunk)


def cycles(geometry: Geometry, machine: Machine, weights: Weights, costs: Costs = ZEN) -> float:
    """Modelled cycles of the slowest thread.

    Weights stream beside the products and hide behind them, or the other way round; what the transforms read and
    write beyond L2 hides behind their arithmetic. The two phases do not overlap.
    """
    b = geometry.blocking
    tiles = geometry.blocks * geometry.register_tiles * b.tile
    vectors = geometry.chunks * b.chunk * b.vectors
    from_l3, through_transforms = _streamed_bytes(geometry, machine)
    parts = geometry.blocks if geometry.blocks > 1 else geometry.chunks
    share = cdiv(parts, machine.threads) / parts
    rates = streaming(machine)
    stream = share * from_l3 / (rates.l3 if weights is Weights.L3_UNDISTURBED else rates.l3_disturbed)
    if weights is Weights.MEMORY:  # which the threads share
        stream = max(stream, geometry.weight_bytes / rates.memory)
    products = _overlapped(share * _products(geometry, tiles), stream, costs.exposed_weights)
    moved = through_transforms / geometry.transform.streamed_bytes
    transforms = _overlapped(costs.transform_stalls * _transforms(geometry, tiles, vectors, machine), moved, _EXPOSED)
    return products + share * transforms


def _overlapped(a: float, b: float, exposed: float) -> float:
    return max(a, b) + exposed * min(a, b)


def _products(geometry: Geometry, tiles: int) -> float:
    b = geometry.blocking
    accumulators = b.tile * b.vectors
    busy = min(1.0, accumulators / _FMAS_IN_FLIGHT)
    ports = min(1.0, accumulators / (b.tile + b.vectors))  # two loads beside two multiply-adds
    channels = geometry.reduced_vectors * geometry.reduced_lanes
    blocks = geometry.task.groups * geometry.channel_blocks
    register_tiles = geometry.positions * tiles // b.tile * blocks
    # each chunk goes through all of V again
    passes = _FLOAT32_BYTES * geometry.positions * geometry.input_panel * geometry.blocks * geometry.chunks
    return register_tiles * accumulators * (channels / 2 / (busy * ports) + _STARTUP) + passes / _L2_BYTES


def _transforms(geometry: Geometry, tiles: int, vectors: int, machine: Machine) -> float:
    """Arithmetic, and stores at one a cycle."""
    positions, (height, width) = geometry.positions, geometry.transform.outputs
    per_input, per_output = _transform_cycles(geometry.transform, machine.vector_registers)
    per_input += positions
    per_output += positions / 2 + height * width
    return tiles * (geometry.input_vectors * per_input + vectors * per_output)


@functools.lru_cache(maxsize=1 << 12)
def _transform_cycles(transform: TileTransform, registers: int) -> tuple[float, float]:
    return transform.cycles(registers)


def _streamed_bytes(geometry: Geometry, machine: Machine) -> tuple[float, float]:
    """Bytes from beyond L2 in the products, and from or to there in the transforms."""
    t, b = geometry.task, geometry.blocking
    slice_bytes = _FLOAT32_BYTES * geometry.reduced_vectors * b.lanes * b.vectors * b.lanes
    panel = _FLOAT32_BYTES * geometry.input_panel
    transformed = geometry.positions * panel
    made = _FLOAT32_BYTES * geometry.positions * b.chunk * geometry.product_panel

    def spilled(resident: float) -> float:
        """Which part of what should stay in L2 does not."""
        return max(0.0, 1.0 - machine.l2_bytes / resident)

    # the weights are used once a block; they stay only if everything does
    products = (
        geometry.blocks
        * geometry.weight_bytes
        * min(1.0, 2.0 * spilled(geometry.weight_bytes + geometry.workspace_bytes()))
    )
    whole = spilled(transformed + made + 2 * slice_bytes)
    # V is read again for each chunk or, if not even a panel stays, for each register tile's output channels
    products += geometry.blocks * geometry.chunks * transformed * whole
    passes = t.groups * geometry.channel_blocks - geometry.chunks
    products += geometry.blocks * passes * transformed * spilled(panel + 2 * slice_bytes)
    transforms = geometry.blocks * (transformed + 2 * geometry.chunks * made) * whole
    map_bytes = _FLOAT32_BYTES * t.n * (t.c * t.h * t.w + 2 * t.k * t.oh * t.ow)  # stores read the line first
    if map_bytes > machine.l2_bytes:
        transforms += map_bytes
    return products, transforms
