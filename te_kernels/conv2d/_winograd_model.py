"""Which tile sizes and blockings of Winograd's minimal filtering are worth measuring."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from te_kernels.conv2d._transformed_geometry import Blocking
from te_kernels.conv2d._transformed_model import ZEN, Choice, Costs, Weights, ranked
from te_kernels.conv2d._winograd_transform import WinogradTransform
from te_kernels.machine import Machine
from te_kernels.streaming import streaming
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv

#: Outputs along one axis of a tile, by the kernel's length on it. Beyond them the error grows fast: F(7 x 7, 3 x 3) has
#: 3e-5 of the largest output, F(8 x 8, 3 x 3) 9e-5, for an eighth fewer products.
_OUTPUTS = {1: (1,), 3: (2, 3, 4, 5, 6, 7), 4: (2, 3, 4, 5), 5: (2, 3, 4, 5), 7: (2, 3)}
#: The same with a stride of 2, by the longer phase of the kernel.
_STRIDED_OUTPUTS = {2: (2, 3, 4, 5, 6, 7), 3: (2, 3, 4, 5, 6, 7), 4: (2, 3, 4)}

#: Fitted to 255 measurements on an Emerald Rapids core at varying speed. The best of the four that the model likes most
#: loses 6 % on average on twelve layers; 9 % with Zen's.
_STREAMS = Costs(transform_stalls=2.8, exposed_weights=0.7)


def outputs(length: int, stride: int) -> tuple[int, ...]:
    """Outputs along one axis of a tile that are worth trying; none where minimal filtering saves nothing."""
    if stride == 1 or length == 1:
        return _OUTPUTS.get(length, ())
    return _STRIDED_OUTPUTS.get(cdiv(length, 2), ()) if stride == 2 else ()


def saves(task: ConvTask) -> bool:
    """Whether minimal filtering applies to the kernel and stride of the task, and saves products."""
    both = outputs(task.r, task.stride[0]), outputs(task.s, task.stride[1])
    return task.r * task.s > 1 and task.dilation == (1, 1) and all(both)


def costs_on(machine: Machine) -> Costs:
    """What the model charges on this machine's kind of processor."""
    return ZEN if streaming(machine).streams == 1 else _STREAMS


def promising_blockings(task: ConvTask, machine: Machine) -> list[tuple[WinogradTransform, Blocking]]:
    """The fastest by the model with the weights in L3, undisturbed and disturbed, and in memory; eight at most.

    Each comes with the model's chunk and with that of one register tile's channels (or, if these are the same, with the
    model's second): the model sees these up to 6 % behind, and on a Zen 4 core they were 3 to 19 % ahead. No two cases
    give the same blocking but for the chunk. Where all have tiles of one size, the best of another size is added.
    On eleven layers of 7x7 to 224x224 on a Zen 4 core, the best of these loses 1.0 % on average on the best of all that
    were measured, 7 % at most. On twelve layers on an Emerald Rapids core at varying speed it is 2 %, 7 % at most.
    """
    transforms = worthwhile(task)
    costs = costs_on(machine)
    chosen: dict[tuple[WinogradTransform, Blocking], None] = {}
    for weights in Weights:
        _add_best(ranked(task, machine, transforms, weights, costs=costs), chosen)
    if len(sizes := {transform for transform, _ in chosen}) == 1:
        every = ranked(task, machine, transforms, Weights.L3, costs=costs)
        _add_best([choice for choice in every if choice.transform not in sizes], chosen)
    return list(chosen)


def _add_best(
    choices: Sequence[Choice[WinogradTransform]], chosen: dict[tuple[WinogradTransform, Blocking], None]
) -> None:
    """The first that is not among the chosen whatever its chunk, with two chunks."""
    known = {_in_smallest_chunks(*pair) for pair in chosen}
    ordered = [(choice.transform, choice.blocking) for choice in choices]
    best = next((pair for pair in ordered if _in_smallest_chunks(*pair) not in known), None)
    if best is not None:
        smallest = _in_smallest_chunks(*best)
        second = [pair for pair in ordered if _in_smallest_chunks(*pair) == smallest][1:2]
        chosen.update(dict.fromkeys([best, *(second if best == smallest else [smallest])]))


def _in_smallest_chunks(transform: WinogradTransform, blocking: Blocking) -> tuple[WinogradTransform, Blocking]:
    return transform, dataclasses.replace(blocking, chunk=1)


def worthwhile(task: ConvTask) -> list[WinogradTransform]:
    """Tile sizes of which no other has as few products a tile (and weights) and as few in all; squares first."""
    transforms = [
        WinogradTransform(m, n, task.r, task.s, task.stride)
        for m, n in itertools.product(outputs(task.r, task.stride[0]), outputs(task.s, task.stride[1]))
        if m <= task.oh + 1 and n <= task.ow + 1
    ]

    def products(transform: WinogradTransform) -> int:
        return transform.positions * cdiv(task.oh, transform.m) * cdiv(task.ow, transform.n)

    front: list[WinogradTransform] = []
    for one in sorted(transforms, key=lambda t: (t.positions, products(t), abs(t.m - t.n), t.m)):
        if not front or products(one) < products(front[-1]):
            front.append(one)
    return front
