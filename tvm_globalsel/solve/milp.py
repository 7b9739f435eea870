"""Selection as a mixed-integer linear programme for HiGHS: a second proof, and the place for side constraints.

One binary for each choice. A tensor with a single demand is a unit of flow from the layout that is produced to the one
that is demanded, over arcs that cost what a transform costs. A tensor with several demands makes arcs (binaries, paid
once), and each demanded layout gets its own unit of flow over made arcs from the produced layout (Wong's formulation of
the Steiner arborescence, Mathematical Programming 28, 1984): two layouts "made from" each other carry no flow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.problem import Infeasible, Problem, Solution, plan_cost, relative_gap
from tvm_globalsel.solve import pbqp
from tvm_globalsel.solve.infeasible import explain
from tvm_globalsel.solve.memory import Memory, peak
from tvm_globalsel.solve.memory_rows import UNIT, MemoryRows
from tvm_globalsel.solve.model import Model, Terms, negative
from tvm_globalsel.solve.signatures import Signatures, collapse, efficient

#: HiGHS' tolerances are absolute, about 1e-6: the objective is scaled so that an optimum is about this large.
_SCALE = 1e6
_OPTIMAL, _INFEASIBLE = 0, 2
#: A relative gap that counts as closed, and how often to try for it.
_CLOSED = 1e-9
#: The same under side constraints: HiGHS may exceed them by a millionth of a thousandth, and be that much too cheap.
_CLOSED_WITHIN_LIMITS = 1e-7
_ATTEMPTS = 3
#: How many plans may turn out to need more memory than the rows say, because of chains of transforms.
_REFUTATIONS = 40


@dataclass(frozen=True)
class Limit:
    """A side constraint: the weights of the choices taken sum to ``most`` or less; one array ``(choices,)`` a node."""

    name: str
    weights: tuple[np.ndarray, ...]
    most: float

    def used(self, choice: Sequence[int]) -> float:
        """What a plan uses of it."""
        return sum(float(weights[c]) for weights, c in zip(self.weights, choice, strict=True))


@dataclass(frozen=True)
class MemoryLimit:
    """A side constraint: the peak of the plan's memory is ``most_bytes`` or less."""

    name: str
    memory: Memory
    most_bytes: float


def solve(
    problem: Problem, limits: Sequence[Limit] = (), time_limit_s: float = math.inf, memory: MemoryLimit | None = None
) -> Solution:
    """The plan of least cost under side constraints, with the bound that HiGHS proves.

    When ``time_limit_s`` strikes, the best plan so far with its gap. Raises Infeasible when there is no plan at all, or
    TimeoutError when none was found in time.
    """
    started = time.perf_counter()
    # with side constraints the cheapest choice for some layouts is not always the one to take
    demands = [limit.weights for limit in limits]
    if memory is not None:
        demands += [memory.memory.workspace_bytes, memory.memory.weight_bytes]
    model, known, chosen = _assignment(problem, demands)
    for limit in limits:
        _add_limit(model, limit, known, chosen)
    rows = MemoryRows(model, problem, memory.memory, known, chosen, memory.most_bytes) if memory else None
    least = sum(float(signatures.costs_s.min(initial=np.inf)) for signatures in known)
    scale = _SCALE / (least or max(model.costs) or 1.0)
    choice: tuple[int, ...] = ()
    cost_s, bound_s, gap, nodes = np.inf, -np.inf, np.inf, 0
    attempts = refutations = 0
    while attempts < _ATTEMPTS:
        result = model.optimise(scale, cost_s, _options(started, time_limit_s))
        if result.status == _INFEASIBLE:
            raise _infeasible(problem, [*limits, *([memory] if memory else [])])
        if result.x is None:
            raise TimeoutError(f"HiGHS found no plan: {result.message}")
        nodes += int(result.mip_node_count)
        choice = _choice(result.x, known, chosen)
        if rows and memory and peak(problem, memory.memory, choice).total_bytes > memory.most_bytes:
            refutations += 1
            if result.status != _OPTIMAL or refutations > _REFUTATIONS:
                raise TimeoutError("HiGHS found no plan within the memory in time")
            if not rows.refute(choice):
                raise AssertionError(f"the rows allow {memory.most_bytes} bytes to a plan that needs more: {choice}")
            continue
        attempts += 1
        cost_s = plan_cost(problem, choice)
        bound_s = min(cost_s, float(result.mip_dual_bound) / scale)
        gap = relative_gap(cost_s, bound_s)
        if gap <= _CLOSED or result.status != _OPTIMAL:
            break
        # HiGHS takes a millionth for zero, which matters where costs differ by more than that: without the columns
        # that cost more than this whole plan they no longer do
    return Solution(
        choice=choice,
        cost_s=cost_s,
        lower_bound_s=bound_s,
        gap=gap,
        optimal=result.status == _OPTIMAL and gap <= (_CLOSED_WITHIN_LIMITS if demands else _CLOSED),
        solver="milp",
        seconds=time.perf_counter() - started,
        reductions={"columns": len(model.costs), "rows": len(model.rows), "branch nodes": nodes},
    )


@dataclass(frozen=True)
class Least:
    """The least that any plan needs of something, a plan that needs it, and whether that is proven."""

    value: float
    choice: tuple[int, ...]
    proven: bool


def least(
    problem: Problem, goal: Limit | MemoryLimit, limits: Sequence[Limit] = (), memory: MemoryLimit | None = None,
    time_limit_s: float = math.inf,
) -> Least:  # fmt: skip
    """The least of ``goal`` (its own bound does not count) under the other side constraints, at any cost in seconds.

    Raises as :func:`solve` does.
    """
    started = time.perf_counter()
    demands = [limit.weights for limit in limits]
    for one in (goal, memory):
        if isinstance(one, MemoryLimit):
            demands += [one.memory.workspace_bytes, one.memory.weight_bytes]
        elif one is not None:
            demands.append(one.weights)
    model, known, chosen = _assignment(problem, demands)
    model.costs = [0.0] * len(model.costs)
    for limit in limits:
        _add_limit(model, limit, known, chosen)
    checks: list[tuple[MemoryRows, Memory, float]] = []
    if memory is not None:
        checks.append((MemoryRows(model, problem, memory.memory, known, chosen, memory.most_bytes), memory.memory,
                       memory.most_bytes))  # fmt: skip
    used: Callable[[Sequence[int]], float]
    if isinstance(goal, MemoryLimit):
        upper = float(peak(problem, goal.memory, pbqp.solve(problem).choice).total_bytes) * 16 + 1
        column = model.column(1.0, False)
        rows = MemoryRows(model, problem, goal.memory, known, chosen, upper, column)
        unit = upper
        bytes_of = goal.memory
        used = lambda choice: float(peak(problem, bytes_of, choice).total_bytes)  # noqa: E731
    else:
        rows, used = None, goal.used
        unit = sum(float(w[s.choice].max(initial=0.0)) for w, s in zip(goal.weights, known, strict=True)) or 1.0
        for columns, signatures, weights in zip(chosen, known, goal.weights, strict=True):
            for at, choice in zip(columns, signatures.choice.tolist(), strict=True):
                model.costs[at] = float(weights[choice]) / unit
    best: Least | None = None
    for _ in range(_REFUTATIONS):
        result = model.optimise(UNIT, np.inf, _options(started, time_limit_s))
        if result.status == _INFEASIBLE:
            raise _infeasible(problem, [*limits, *([memory] if memory else [])])
        if result.x is None:
            break
        plan = _choice(result.x, known, chosen)
        wrong = [r for r, needs, most in checks if peak(problem, needs, plan).total_bytes > most]
        if any([one_of.refute(plan) for one_of in wrong]):
            continue
        value = used(plan)
        proven = result.status == _OPTIMAL and value <= result.mip_dual_bound / UNIT * unit * (1 + 1e-6) + 1e-9 * unit
        if best is None or value < best.value or proven:
            best = Least(value, plan, proven)
        if rows is None or proven or result.status != _OPTIMAL or not rows.refute(plan):
            break
    if best is None:
        raise TimeoutError("HiGHS found no plan in time")
    return best


def _options(started: float, time_limit_s: float) -> dict[str, float]:
    options = {"mip_rel_gap": 0.0}
    if time_limit_s < math.inf:
        options["time_limit"] = max(0.1, time_limit_s - (time.perf_counter() - started))
    return options


def _assignment(
    problem: Problem, demands: Sequence[Sequence[np.ndarray]]
) -> tuple[Model, list[Signatures], list[list[int]]]:
    """The programme without side constraints, the choices it knows of each node, and their columns."""
    known = [
        efficient(node, [demand[index] for demand in demands]) if demands else collapse(node)
        for index, node in enumerate(problem.nodes)
    ]
    if any(signatures.choice.size == 0 for signatures in known):
        raise explain(problem, pbqp.feasible)
    model = Model()
    chosen = [[model.column(cost, True) for cost in signatures.costs_s.tolist()] for signatures in known]
    for columns in chosen:
        model.row([(column, 1.0) for column in columns], 1.0, 1.0)
    for index in range(len(problem.nodes)):
        _add_tensor(model, problem, known, chosen, index)
    return model, known, chosen


def _add_limit(model: Model, limit: Limit, known: list[Signatures], chosen: list[list[int]]) -> None:
    terms = [
        (column, float(weights[choice]))
        for columns, signatures, weights in zip(chosen, known, limit.weights, strict=True)
        for column, choice in zip(columns, signatures.choice.tolist(), strict=True)
    ]
    # HiGHS' tolerance is absolute: in units of the limit itself it is nothing
    scale = UNIT / (abs(limit.most) or max((abs(factor) for _, factor in terms), default=0.0) or 1.0)
    model.row([(column, factor * scale) for column, factor in terms], -np.inf, limit.most * scale)


def _choice(values: np.ndarray, known: list[Signatures], chosen: list[list[int]]) -> tuple[int, ...]:
    return tuple(
        int(signatures.choice[int(np.argmax(values[columns]))])
        for columns, signatures in zip(chosen, known, strict=True)
    )


def _infeasible(problem: Problem, limits: Sequence[Limit | MemoryLimit]) -> Infeasible:
    if limits and pbqp.feasible(problem):
        return Infeasible(f"no plan keeps within the limits together: {', '.join(limit.name for limit in limits)}")
    return explain(problem, pbqp.feasible)


def _add_tensor(
    model: Model, problem: Problem, known: list[Signatures], chosen: list[list[int]], producer: int
) -> None:
    """Columns and rows for the output of one node."""
    layouts = range(len(problem.layouts))
    table = problem.transform_s[producer]
    arcs = [(a, b) for a in layouts for b in layouts if a != b and table[a, b] < np.inf]
    produced: list[Terms] = [[] for _ in layouts]
    for column, layout in zip(chosen[producer], known[producer].out_layout.tolist(), strict=True):
        produced[layout].append((column, 1.0))
    demands: dict[tuple[int, tuple[int, ...]], list[Terms]] = {}
    for reader, slot in problem.consumers[producer]:
        reads = known[reader].in_layouts[:, slot].tolist()
        demanded: list[Terms] = [[] for _ in layouts]
        for column, layout in zip(chosen[reader], reads, strict=True):
            demanded[layout].append((column, 1.0))
        demands[reader, tuple(reads)] = demanded  # equal demands of one reader are one
    if len(demands) == 1:
        (demanded,) = demands.values()
        flow = {arc: model.column(float(table[arc]), False) for arc in arcs}
        for layout in layouts:
            _conserve(model, flow, layout, produced[layout], demanded[layout])
        return
    made = {arc: model.column(float(table[arc]), True) for arc in arcs if table[arc] > 0}
    for wanted in layouts:
        readers = [demanded[wanted] for demanded in demands.values() if demanded[wanted]]
        if not readers:
            continue
        available = model.column(0.0, False)
        for terms in readers:
            model.row([(available, -1.0), *terms], -np.inf, 0.0)
        flow = {arc: model.column(0.0, False) for arc in arcs}
        for arc in made:
            model.row([(flow[arc], 1.0), (made[arc], -1.0)], -np.inf, 0.0)
        for layout in layouts:
            supply: Terms = []
            if produced[layout]:
                drawn = model.column(0.0, False)
                model.row([(drawn, 1.0), *negative(produced[layout])], -np.inf, 0.0)
                supply = [(drawn, 1.0)]
            _conserve(model, flow, layout, supply, [(available, 1.0)] if layout == wanted else [])


def _conserve(model: Model, flow: dict[tuple[int, int], int], layout: int, supply: Terms, demand: Terms) -> None:
    """What comes into a layout goes out of it."""
    incoming = [(column, 1.0) for (_, to), column in flow.items() if to == layout]
    outgoing = [(column, -1.0) for (source, _), column in flow.items() if source == layout]
    terms = [*supply, *incoming, *outgoing, *negative(demand)]
    if terms:
        model.row(terms, 0.0, 0.0)
