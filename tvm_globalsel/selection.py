"""Measured candidates of a network to a :class:`Problem`, and its solution back to variants and transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from te_kernels.generic.view import row_major
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout, same_bytes
from te_kernels.machine import Machine
from te_kernels.task import Task, TransformTask
from te_kernels.variant import Variant
from tvm_globalsel.candidates import Candidates, candidates_for
from tvm_globalsel.choices import deferrals, layouts_of
from tvm_globalsel.deferral import source_layout
from tvm_globalsel.errors import UserError
from tvm_globalsel.graph import Network, Operator
from tvm_globalsel.log import Context, Record, TuningLog
from tvm_globalsel.problem import NodeChoices, Problem, Solution, transforms_of_plan

INPUT, OUTPUT = "input:", "output:"

#: Modelled seconds of a variant on a task.
Predict = Callable[[Task, Variant], float]


@dataclass(frozen=True)
class Measured:
    """One candidate with what the log knows of it. ``cost_s`` is infinite when it failed or was not measured.

    ``record`` is of the kernel alone; ``inside``: the cost is one measured inside of a network.
    """

    variant: Variant
    cost_s: float
    record: Record | None
    inside: bool = False

    @property
    def predicted(self) -> bool:
        """Whether the cost is a model's."""
        return self.record is None and 0 < self.cost_s < math.inf

    @property
    def status(self) -> str:
        """ "measured", "not measured", "predicted ...", or the error."""
        if self.record is None and math.isinf(self.cost_s):
            return "not measured"
        if self.predicted:
            return "predicted by a model, not measured"
        if self.record is None:
            return "measured"
        return self.record.error or "measured"


@dataclass(frozen=True)
class Costs:
    """Everything the log says about a network's tasks: by task key, the candidates and the best transform kernels."""

    choices: dict[str, tuple[Measured, ...]]
    transforms: dict[str, Measured]
    #: Of a kernel: each may need scratch memory of its own.
    threads: int = 1

    def of(self, op: Operator) -> tuple[Measured, ...]:
        """Everything that the operator may run as: variants of its own, those of a pair, and being deferred."""
        own = [measured for task in op.tasks for measured in self.choices[task.key]]
        behind = self.choices[op.absorbed_by.key] if op.absorbed_by else ()
        deferred = deferrals(op, (m.variant for m in behind))
        return (*own, *(Measured(variant, 0.0, None) for variant in deferred))


@dataclass(frozen=True)
class Transform:
    """One layout transform to insert: of the value ``value``, from ``task.source`` to ``task.destination``.

    ``variant`` is None when both layouts are the same bytes, so that nothing moves.
    """

    value: str
    task: TransformTask
    variant: Variant | None
    cost_s: float


@dataclass(frozen=True)
class Selection:
    """The answer: a variant for every operator (in the network's order) and the transforms, in order of execution."""

    problem: Problem
    solution: Solution
    variants: dict[str, Measured]
    transforms: tuple[Transform, ...]


def costs_from_log(
    found: dict[str, Candidates], transform_tasks: list[TransformTask], transform_candidates: dict[str, Candidates],
    log: TuningLog, context: Context, predict: Predict | None = None,
) -> Costs:  # fmt: skip
    """Look every candidate up in the log; with ``predict``, the candidates of a task that it does not know at all."""
    choices = {key: _all_measured(candidates, log, context, predict) for key, candidates in found.items()}
    transforms: dict[str, Measured] = {}
    for task in transform_tasks:
        measured = _all_measured(transform_candidates[task.key], log, context, predict)
        finite = [m for m in measured if math.isfinite(m.cost_s)]
        if finite:
            transforms[task.key] = min(finite, key=lambda m: m.cost_s)
    return Costs(choices, transforms, context.threads)


def _all_measured(
    candidates: Candidates, log: TuningLog, context: Context, predict: Predict | None
) -> tuple[Measured, ...]:
    every = tuple(_measured(candidates.task, variant, log, context) for variant in candidates.variants)
    if predict is None or any(m.record is not None or m.cost_s == 0 for m in every):
        return every
    return tuple(Measured(m.variant, predict(candidates.task, m.variant), None) for m in every)


def _measured(task: Task, variant: Variant, log: TuningLog, context: Context) -> Measured:
    if variant.needs_no_kernel:
        return Measured(variant, 0.0, None)
    record = log.get(context.key(task, variant))
    return Measured(variant, record.cost_s if record else math.inf, record)


def build_problem(network: Network, costs: Costs) -> Problem:
    """The assignment problem: graph inputs and outputs are nodes pinned to the caller's layout.

    Raises :class:`UserError` naming an operator of which nothing could be measured.
    """
    layouts = _all_layouts(network, costs)
    index_of = {name: i for i, name in enumerate(layouts)}
    nodes: list[NodeChoices] = []
    transform_s: list[np.ndarray] = []
    node_of: dict[str, int] = {}
    tables: dict[tuple[int, ...], np.ndarray] = {}

    def add(node: NodeChoices, value: str, shape: tuple[int, ...]) -> None:
        node_of[value] = len(nodes)
        nodes.append(node)
        if shape not in tables:
            tables[shape] = _transform_table(shape, layouts, costs)
        transform_s.append(tables[shape])

    for value in network.inputs:
        layout = index_of[row_major(value.shape)]
        add(_pinned(INPUT + value.name, (), layout), value.name, value.shape)
    for op in network.operators:
        measured = costs.of(op)
        if not any(math.isfinite(m.cost_s) for m in measured):
            errors = sorted({m.status for m in measured}) or ["no variant applies"]
            raise UserError(
                f"operator {op.name!r} ({op.task.kind}): none of its {len(measured)} candidates was measured "
                f"({'; '.join(errors)[:300]})",
                "give it more time with --budget"
                if "not measured" in errors
                else "its kernels fail on this machine: is the target this machine's?",
            )
        every = [layouts_of(op, m.variant) for m in measured]
        add(
            NodeChoices(
                name=op.name,
                costs_s=np.array([m.cost_s for m in measured]),
                out_layout=np.array([index_of[e.output] for e in every]),
                in_layouts=np.array([[index_of[name] for name in e.inputs] for e in every]),
                inputs=tuple(node_of[name] for name in op.inputs),
                labels=tuple(m.variant.label for m in measured),
                families=tuple(m.variant.family for m in measured),
            ),
            op.name,
            op.task.output_shape,
        )
    shapes = network.shapes
    for number, name in enumerate(network.outputs):
        layout = index_of[row_major(shapes[name])]
        nodes.append(_pinned(f"{OUTPUT}{number}:{name}", (node_of[name],), layout))
        transform_s.append(tables[shapes[name]])
    return Problem(layouts, tuple(nodes), tuple(transform_s))


def _pinned(name: str, inputs: tuple[int, ...], layout: int) -> NodeChoices:
    return NodeChoices(name, np.zeros(1), np.array([layout]), np.full((1, len(inputs)), layout), inputs, ("pinned",))


def _all_layouts(network: Network, costs: Costs) -> tuple[str, ...]:
    """Every layout that occurs, the caller's first."""
    names = dict.fromkeys(["NCHW", "plain"])
    for op in network.operators:
        for measured in costs.of(op):
            layouts = layouts_of(op, measured.variant)
            names.update(dict.fromkeys((*layouts.inputs, layouts.output)))
    return tuple(names)


def _transform_table(shape: tuple[int, ...], layouts: tuple[str, ...], costs: Costs) -> np.ndarray:
    table = np.full((len(layouts), len(layouts)), np.inf)
    np.fill_diagonal(table, 0.0)
    stored = [(i, name) for i, name in enumerate(layouts) if source_layout(name) is None]
    for i, source in stored:
        for j, destination in stored:
            if i == j or any(Layout(name).reason_cannot_hold(shape) for name in (source, destination)):
                continue
            if same_bytes(shape, Layout(source), Layout(destination)):
                table[i, j] = 0.0
                continue
            best = costs.transforms.get(TransformTask(shape, source, destination).key)
            if best is not None:
                table[i, j] = best.cost_s
    return table


def interpret(network: Network, costs: Costs, problem: Problem, solution: Solution) -> Selection:
    """Variants and transforms of a solution."""
    first = len(network.inputs)
    variants = {op.name: costs.of(op)[solution.choice[first + i]] for i, op in enumerate(network.operators)}
    shapes = network.shapes
    values = [v.name for v in network.inputs] + [op.name for op in network.operators]
    transforms = []
    for value, arcs in zip(values, transforms_of_plan(problem, solution.choice), strict=False):
        for source, destination in arcs:
            task = TransformTask(shapes[value], problem.layouts[source], problem.layouts[destination])
            best = costs.transforms.get(task.key)
            free = same_bytes(task.shape, Layout(task.source), Layout(task.destination))
            if best is None and not free:
                raise AssertionError(f"the plan uses {task}, which was never measured")
            transforms.append(
                Transform(value, task, None if free or best is None else best.variant, best.cost_s if best else 0.0)
            )
    return Selection(problem, solution, variants, tuple(transforms))


def transform_candidates(tasks: list[TransformTask], machine: Machine | Gpu) -> dict[str, Candidates]:
    """Candidates of layout transforms, by task key."""
    return {task.key: candidates_for(task, machine) for task in tasks}
