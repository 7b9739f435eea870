"""What a user demands of a plan beside speed: memory, accuracy, pinned and forbidden variants; and why not.

The accumulated error of a plan is the sum over its operators of the chosen variant's measured relative error (largest
absolute error over largest reference element, against a float64 oracle on random data). It is a first-order bound for
operators that do not amplify errors of their inputs; it orders plans, and does not replace ``globalsel check``.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from te_kernels.layout import Layout, same_bytes
from te_kernels.task import Task, ViewTask
from te_kernels.variant import Variant, all_variants
from tvm_globalsel.choices import constants_of, task_of
from tvm_globalsel.deferral import DEFERRED, source_layout
from tvm_globalsel.errors import UserError
from tvm_globalsel.graph import Network, Operator
from tvm_globalsel.packing import described, packed_bytes
from tvm_globalsel.problem import Infeasible, Problem, Solution
from tvm_globalsel.selection import Costs, Measured
from tvm_globalsel.solve import frugal, solve
from tvm_globalsel.solve.memory import Memory, Peak, peak
from tvm_globalsel.solve.restrict import restricted

_FLOAT_BYTES = 4
_EXACT = ("pbqp", "milp")
#: A plan whose error is above the limit by no more than this part of it keeps the limit: sums are rounded.
ROUNDING = 1e-9
MEMORY, ERROR, SLACK = "--max-memory", "--max-error", "--slack"


@dataclass(frozen=True)
class Demands:
    """Limits on a plan: peak bytes, accumulated relative error, (node, variant) pins, forbidden variants.

    A variant is given by its name or by its label, ``name[knob=value,...]``. ``slack`` is the part of the fastest
    plan's time that smaller weights may cost. Raises :class:`UserError` for a slack beside limits.
    """

    max_memory_bytes: int | None = None
    max_error: float | None = None
    pins: tuple[tuple[str, str], ...] = ()
    forbids: tuple[str, ...] = ()
    time_limit_s: float = 120.0
    slack: float = 0.0

    def __post_init__(self) -> None:
        if self.slack and self.limited:
            raise UserError(f"{SLACK} goes with neither {MEMORY} nor {ERROR}", "leave one of them out")

    @property
    def limited(self) -> bool:
        """Whether the fastest plan may be one that is not allowed."""
        return self.max_memory_bytes is not None or self.max_error is not None

    def to_dict(self) -> dict[str, Any]:
        """For ``plan.json``."""
        return {
            "max_memory_bytes": self.max_memory_bytes, "max_error": self.max_error,
            "pin": [list(pin) for pin in self.pins], "forbid": list(self.forbids), "slack": self.slack,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Account:
    """What each choice of a problem needs beside time. ``errors`` ``(choices,)`` a node."""

    problem: Problem
    memory: Memory
    errors: tuple[np.ndarray, ...] = field(default=())

    def peak(self, solution: Solution) -> Peak:
        """Memory of a plan."""
        return peak(self.problem, self.memory, solution.choice)

    def error(self, solution: Solution) -> float:
        """Accumulated error of a plan."""
        return sum(float(errors[c]) for errors, c in zip(self.errors, solution.choice, strict=True))


def restrict(network: Network, costs: Costs, problem: Problem, demands: Demands) -> Problem:
    """The problem without the choices that pins and prohibitions rule out.

    Raises :class:`UserError` for an unknown node or variant, or when a node is left without a measured choice.
    """
    if not demands.pins and not demands.forbids:
        return problem
    first = len(network.inputs)
    names = [op.name for op in network.operators]
    pins: dict[str, str] = {}
    for node, variant in demands.pins:
        if node not in names:
            raise UserError(f"--pin {node}={variant}: the network has no operator {node!r}", _close(node, names))
        if pins.setdefault(node, variant) != variant:
            raise UserError(f"--pin {node}={variant}: {node!r} is pinned to {pins[node]} too", "pin it once")
    known = {DEFERRED, *all_variants(), *(m.variant.label for every in costs.choices.values() for m in every)}
    for variant in demands.forbids:
        if variant not in known:
            raise UserError(f"--forbid {variant}: there is no such variant", _close(variant, sorted(known)))
    allowed = [np.ones(node.size, dtype=bool) for node in problem.nodes]
    for index, op in enumerate(network.operators):
        every = costs.of(op)
        finite = np.array([math.isfinite(m.cost_s) for m in every])
        kept = np.array([not any(_is(m.variant, name) for name in demands.forbids) for m in every])
        if not (kept & finite).any():
            left = sorted({m.variant.name for m in every if math.isfinite(m.cost_s)})
            raise UserError(
                f"--forbid {', '.join(demands.forbids)} leaves operator {op.name!r} without a variant that was "
                f"measured (it has {', '.join(left)})", "allow one of them",
            )  # fmt: skip
        if op.name in pins:
            kept &= _pinned(op, every, pins[op.name], kept)
        allowed[first + index] = kept
    return restricted(problem, allowed)


def _pinned(op: Operator, every: tuple[Measured, ...], wanted: str, kept: np.ndarray) -> np.ndarray:
    chosen = np.array([_is(m.variant, wanted) for m in every])
    if not chosen.any():
        names = sorted({name for m in every for name in (m.variant.name, m.variant.label)})
        raise UserError(f"--pin {op.name}={wanted}: no such variant applies to {op.name!r}", _close(wanted, names))
    if not (chosen & kept).any():
        raise UserError(f"--pin {op.name}={wanted} and --forbid contradict each other", "drop one of them")
    if not any(math.isfinite(m.cost_s) for m, taken in zip(every, chosen, strict=True) if taken):
        status = sorted({m.status for m, taken in zip(every, chosen, strict=True) if taken})
        raise UserError(f"--pin {op.name}={wanted}: {'; '.join(status)[:300]}", "give it more time with --budget")
    return chosen


def _is(variant: Variant, name: str) -> bool:
    return name in (variant.name, variant.label)


def _close(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 3, 0.4) or [k for k in known if name.lower() in k.lower()][:3]
    return (
        f"did you mean {', '.join(close)}?" if close else "'globalsel explain' and 'globalsel variants' list the names"
    )


def account(network: Network, costs: Costs, problem: Problem, only: Solution | None = None) -> Account:
    """Bytes and errors of every choice that may be taken; with ``only``, of the choices of that plan (much faster)."""
    first, last = len(network.inputs), len(problem.nodes) - 1
    shapes = network.shapes
    values = [*(v.name for v in network.inputs), *(op.name for op in network.operators)]
    source = {op.name: shapes[op.inputs[0]] for op in network.operators if op.absorbed_by}
    tensors = [_tensor_bytes(shapes[name], problem.layouts, source.get(name)) for name in values]
    tensors += [np.zeros(len(problem.layouts)) for _ in network.outputs]
    workspace = [np.zeros(node.size) for node in problem.nodes]
    weights = [np.zeros(node.size) for node in problem.nodes]
    errors = [np.zeros(node.size) for node in problem.nodes]
    for index, op in enumerate(network.operators, first):
        for number, measured in enumerate(costs.of(op)):
            if only.choice[index] != number if only else not np.isfinite(problem.nodes[index].costs_s[number]):
                continue
            task = task_of(op, measured.variant)
            workspace[index][number] = measured.variant.workspace_bytes(task, costs.threads)
            weights[index][number] = packed_bytes(task, measured.variant, described(constants_of(op, measured.variant)))
            errors[index][number] = _error(task, measured)
    held = [index if problem.consumers[index] else last for index in range(len(problem.nodes))]
    for index in range(len(problem.nodes) - 1, -1, -1):
        op_index = index - first
        if 0 <= op_index < len(network.operators):
            op = network.operators[op_index]
            if isinstance(op.task, ViewTask):
                held[index] = max((held[reader] for reader, _ in problem.consumers[index]), default=index)
                own = {problem.layouts[int(layout)] for layout in problem.nodes[index].out_layout}
                for number, name in enumerate(problem.layouts):
                    if _aliases(op.task.output_shape, name, own):
                        tensors[index][number] = 0.0
    memory = Memory(tuple(tensors), tuple(workspace), tuple(weights), tuple(held))
    return Account(problem, memory, tuple(errors))


def _aliases(shape: tuple[int, ...], layout: str, own: set[str]) -> bool:
    """Whether the layout is one of those a view is made in, or the same bytes."""
    if layout in own:
        return True
    stored = [Layout(name) for name in (layout, *own) if source_layout(name) is None]
    able = [one for one in stored if not one.reason_cannot_hold(shape)]
    return any(one.name == layout and same_bytes(shape, one, other) for one in able for other in able if one != other)


def _tensor_bytes(shape: tuple[int, ...], layouts: tuple[str, ...], source: tuple[int, ...] | None) -> np.ndarray:
    """In float32; a layout that cannot hold the tensor has no size, as it is never made.

    A value that is deferred keeps what it would be computed of: a tensor of shape ``source``. That is charged as if it
    were another one, which is too much as long as that one lives anyway, and never too little.
    """

    def stored(name: str, shape: tuple[int, ...]) -> float:
        layout = Layout(name)
        return 0.0 if layout.reason_cannot_hold(shape) else math.prod(layout.physical_shape(shape)) * _FLOAT_BYTES

    def size(name: str) -> float:
        before = source_layout(name)
        if before is None:
            return stored(name, shape)
        return stored(before, source) if source else 0.0

    return np.array([size(name) for name in layouts])


def _error(task: Task, measured: Measured) -> float:
    if measured.variant.needs_no_kernel:
        return 0.0
    known = measured.record.relative_error if measured.record else None
    return known if known is not None else measured.variant.error_bound(task)


def answer(network: Network, costs: Costs, problem: Problem, demands: Demands, solver: str) -> Solution:
    """The best plan of a restricted problem within the limits. Without limits, any solver; with limits, exact ones.

    Limits that the free optimum keeps change nothing; else the MILP finds the optimum among the plans that keep them.
    A slack is spent on smaller weights.
    Raises :class:`UserError` that says which demand cannot be met and the nearest value that can.
    """
    try:
        if (demands.limited or demands.slack) and solver not in _EXACT:
            given = SLACK if demands.slack else f"{MEMORY} or {ERROR}"
            raise UserError(f"--solver {solver} cannot keep {given}", "use milp, or leave --solver out")
        free = solve(problem, "pbqp" if demands.limited else solver)
        if not demands.limited and not demands.slack:
            return free
    except Infeasible as error:
        pinned = bool(demands.pins or demands.forbids)
        raise UserError(
            f"no plan {'satisfies --pin and --forbid' if pinned else 'exists'}: {error}",
            "drop one of them" if pinned else "give it more time with --budget",
        ) from error
    except ValueError as error:
        raise UserError(f"--solver {solver}: {error}", "choose one of those") from error
    needs = account(network, costs, problem)
    if demands.slack:
        return frugal.solve(problem, needs.memory.weight_bytes, demands.slack, free)
    if solver != "milp" and not _broken(needs, free, demands):
        return free
    from tvm_globalsel.limits import within  # scipy is slow to import, and few need it

    return within(needs, demands, free)


def _broken(needs: Account, solution: Solution, demands: Demands) -> bool:
    most, error = demands.max_memory_bytes, demands.max_error
    return (most is not None and needs.peak(solution).total_bytes > most) or (
        error is not None and needs.error(solution) > error * (1 + ROUNDING)
    )


def unlimited(demands: Demands) -> Demands:
    """The pins and prohibitions alone."""
    return dataclasses.replace(demands, max_memory_bytes=None, max_error=None, slack=0.0)
