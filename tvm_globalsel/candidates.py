"""Which variants may run each task, and why the others may not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from te_kernels.generic.view import row_major
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout, same_bytes
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, Task, TransformTask
from te_kernels.variant import Reject, Variant, variants_for
from tvm_globalsel.graph import Network

#: The order in which families are measured when the time is limited: what usually wins first.
_FAMILY_ORDER = ("direct", "fused", "winograd", "strassen", "depthwise", "pool", "dense", "generic", "transform",
                 "gemm", "im2", "kn2", "fft", "sum2d")  # fmt: skip
_WORTH_REFINING = 1.3


@dataclass(frozen=True)
class Rejection:
    """A variant that does not apply to a task, with the sentence that says why."""

    variant: str
    reason: str


@dataclass(frozen=True)
class Candidates:
    """The instances worth measuring for one task and the rejected variants."""

    task: Task
    variants: tuple[Variant, ...]
    rejections: tuple[Rejection, ...]


def candidates_for(task: Task, machine: Machine | Gpu) -> Candidates:
    """All candidates of one task."""
    accepted: list[Variant] = []
    rejected: list[Rejection] = []
    for cls in variants_for(task, machine):
        try:
            found = list(cls.candidates(task, machine))
        except Reject as reason:
            rejected.append(Rejection(cls.name, str(reason)))
            continue
        accepted.extend(found)
        if not found:
            rejected.append(Rejection(cls.name, "no tile of it fits this shape"))
    return Candidates(task, tuple(accepted), tuple(rejected))


def candidates_of(network: Network, machine: Machine | Gpu) -> dict[str, Candidates]:
    """Candidates of every distinct task of the network, pairs included, by task key."""
    found: dict[str, Candidates] = {}
    for op in network.operators:
        for task in op.tasks:
            if task.key not in found:
                found[task.key] = candidates_for(task, machine)
    return found


def layouts_and_families(found: Iterable[Candidates]) -> tuple[set[str], set[str]]:
    """Every layout that some candidate reads or writes, and every family that some convolution has one of."""
    pairs = [(variant, candidates.task) for candidates in found for variant in candidates.variants]
    every = [variant.layouts(task) for variant, task in pairs]
    layouts = {name for one in every for name in (*one.inputs, one.output)}
    return layouts, {variant.family for variant, task in pairs if isinstance(task, ConvTask)}


def with_kernels(candidates: Candidates) -> Candidates:
    """Those candidates that there is something to measure of."""
    kept = tuple(variant for variant in candidates.variants if not variant.needs_no_kernel)
    return dataclasses.replace(candidates, variants=kept)


def transform_tasks(network: Network, found: dict[str, Candidates]) -> list[TransformTask]:
    """Every layout transform that some pair of choices could need on some tensor, free ones excepted."""
    produced: dict[tuple[int, ...], set[str]] = {}
    demanded: dict[tuple[int, ...], set[str]] = {}
    for value in network.inputs:
        produced.setdefault(value.shape, set()).add(row_major(value.shape))
    shapes = network.shapes
    for name in network.outputs:
        demanded.setdefault(shapes[name], set()).add(row_major(shapes[name]))
    for candidates in found.values():
        task = candidates.task
        for variant in candidates.variants:
            layouts = variant.layouts(task)
            produced.setdefault(task.output_shape, set()).add(layouts.output)
            for shape, layout in zip(task.input_shapes, layouts.inputs, strict=True):
                demanded.setdefault(shape, set()).add(layout)
    tasks = []
    for shape in produced:
        if len(shape) != 4:
            continue
        every = sorted(produced[shape] | demanded.get(shape, set()))
        for source in every:
            for destination in every:
                if source != destination and not same_bytes(shape, Layout(source), Layout(destination)):
                    tasks.append(TransformTask(shape, source, destination))
    return tasks


def measuring_order(found: list[Candidates]) -> list[tuple[Task, Variant]]:
    """The first instance of every variant: the likeliest winner of each task, then family by family.

    The first ``len(found)`` entries are one for each task that has candidates, so that they suffice for some plan.
    """
    ranked: list[tuple[tuple[bool, int, int], Task, Variant]] = []
    for number, candidates in enumerate(found):
        instances = sorted(_instances(candidates, first=True), key=_family_rank)
        for place, variant in enumerate(instances):
            ranked.append(((place > 0, _family_rank(variant) if place else 0, number), candidates.task, variant))
    ranked.sort(key=lambda item: item[0])
    return [(task, variant) for _, task, variant in ranked]


def _family_rank(variant: Variant) -> int:
    return _FAMILY_ORDER.index(variant.family) if variant.family in _FAMILY_ORDER else len(_FAMILY_ORDER)


def refinements(found: list[Candidates], cost_s: Callable[[Task, Variant], float]) -> list[tuple[Task, Variant]]:
    """Further instances (other knobs) of those variants whose first instance came near the best of its task.

    The first instance is what the variant's own model likes best; other knobs move a variant by tens of per cent, not
    by factors, so a variant far behind is not worth a second measurement.
    """
    chosen: list[tuple[Task, Variant]] = []
    for candidates in found:
        costs = {v.name: cost_s(candidates.task, v) for v in _instances(candidates, first=True)}
        limit = _WORTH_REFINING * min(costs.values(), default=math.inf)
        for variant in _instances(candidates, first=False):
            cost = costs[variant.name]
            if cost <= limit or math.isinf(cost):  # a first instance that failed says nothing about the second
                chosen.append((candidates.task, variant))
    return chosen


def _instances(candidates: Candidates, first: bool) -> list[Variant]:
    seen: set[str] = set()
    result: list[Variant] = []
    for variant in candidates.variants:
        if (variant.name not in seen) == first:
            result.append(variant)
        seen.add(variant.name)
    return result
