"""Selection as a mixed-integer linear programme for HiGHS: a second proof, and the place for side constraints.

One binary for each choice. A tensor with a single demand is a unit of flow from the layout that is produced to the one
that is demanded, over arcs that cost what a transform costs. A tensor with several demands makes arcs (binaries, paid
once), and each demanded layout gets its own unit of flow over made arcs from the produced layout (Wong's formulation of
the Steiner arborescence, Mathematical Programming 28, 1984): two layouts "made from" each other carry no flow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, sparse

from tvm_globalsel.problem import Infeasible, Problem, Solution, plan_cost, relative_gap
from tvm_globalsel.solve import pbqp
from tvm_globalsel.solve.infeasible import explain
from tvm_globalsel.solve.signatures import Signatures, collapse, every_choice

#: HiGHS' tolerances are absolute, about 1e-6: the objective is scaled so that an optimum is about this large.
_SCALE = 1e6
_OPTIMAL, _INFEASIBLE = 0, 2
#: A relative gap that counts as closed, and how often to try for it.
_CLOSED = 1e-9
_ATTEMPTS = 3

Terms = list[tuple[int, float]]


@dataclass(frozen=True)
class Limit:
    """A side constraint: the weights of the choices taken sum to ``most`` or less; one array ``(choices,)`` a node."""

    name: str
    weights: tuple[np.ndarray, ...]
    most: float


@dataclass
class Model:
    """A programme under construction: columns with objective and bounds, rows ``low <= terms <= high``."""

    costs: list[float] = field(default_factory=list)
    integral: list[bool] = field(default_factory=list)
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)

    def column(self, cost: float, integral: bool) -> int:
        """Add a variable between 0 and 1."""
        self.costs.append(cost)
        self.integral.append(integral)
        return len(self.costs) - 1

    def row(self, terms: Terms, low: float, high: float) -> None:
        """Add a constraint."""
        self.rows.append((terms, low, high))

    def optimise(self, scale: float, most: float, options: dict[str, float]) -> optimize.OptimizeResult:
        """Minimise the objective times ``scale`` without the columns that cost more than ``most``."""
        data = [(index, column, factor) for index, row in enumerate(self.rows) for column, factor in row[0]]
        at_row, at_column, factors = zip(*data, strict=True) if data else ((), (), ())
        # a column that occurs twice in a row counts twice: coo sums duplicates
        matrix = sparse.coo_matrix((factors, (at_row, at_column)), (len(self.rows), len(self.costs))).tocsr()
        costs = np.array(self.costs)
        low, high = [row[1] for row in self.rows], [row[2] for row in self.rows]
        return optimize.milp(
            costs * scale,
            integrality=np.array(self.integral, dtype=int),
            bounds=optimize.Bounds(0.0, np.where(costs <= most, 1.0, 0.0)),
            constraints=optimize.LinearConstraint(matrix, low, high),
            options=options,
        )


def solve(problem: Problem, limits: Sequence[Limit] = (), time_limit_s: float = math.inf) -> Solution:
    """The plan of least cost under side constraints, with the bound that HiGHS proves.

    When ``time_limit_s`` strikes, the best plan so far with its gap. Raises Infeasible when there is no plan at all, or
    TimeoutError when none was found in time.
    """
    started = time.perf_counter()
    model = Model()
    # with side constraints the cheapest choice for some layouts is not always the one to take
    known = [every_choice(node) if limits else collapse(node) for node in problem.nodes]
    chosen = [[model.column(cost, True) for cost in signatures.costs_s.tolist()] for signatures in known]
    for columns in chosen:
        model.row([(column, 1.0) for column in columns], 1.0, 1.0)
    for index in range(len(problem.nodes)):
        _add_tensor(model, problem, known, chosen, index)
    for limit in limits:
        terms = [
            (column, float(weights[choice]))
            for columns, signatures, weights in zip(chosen, known, limit.weights, strict=True)
            for column, choice in zip(columns, signatures.choice.tolist(), strict=True)
        ]
        model.row(terms, -np.inf, limit.most)
    least = sum(float(signatures.costs_s.min(initial=np.inf)) for signatures in known)
    if least == np.inf:
        raise explain(problem, pbqp.feasible)
    scale = _SCALE / (least or max(model.costs) or 1.0)
    options = {"mip_rel_gap": 0.0} | ({"time_limit": time_limit_s} if time_limit_s < math.inf else {})
    choice: tuple[int, ...] = ()
    cost_s, bound_s, gap, nodes = np.inf, -np.inf, np.inf, 0
    for _ in range(_ATTEMPTS):
        result = model.optimise(scale, cost_s, options)
        if result.status == _INFEASIBLE:
            raise _infeasible(problem, limits)
        if result.x is None:
            raise TimeoutError(f"HiGHS found no plan: {result.message}")
        nodes += int(result.mip_node_count)
        choice = tuple(
            int(signatures.choice[int(np.argmax(result.x[columns]))])
            for columns, signatures in zip(chosen, known, strict=True)
        )
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
        optimal=result.status == _OPTIMAL and gap <= _CLOSED,
        solver="milp",
        seconds=time.perf_counter() - started,
        reductions={"columns": len(model.costs), "rows": len(model.rows), "branch nodes": nodes},
    )


def _infeasible(problem: Problem, limits: Sequence[Limit]) -> Infeasible:
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
                model.row([(drawn, 1.0), *_negative(produced[layout])], -np.inf, 0.0)
                supply = [(drawn, 1.0)]
            _conserve(model, flow, layout, supply, [(available, 1.0)] if layout == wanted else [])


def _conserve(model: Model, flow: dict[tuple[int, int], int], layout: int, supply: Terms, demand: Terms) -> None:
    """What comes into a layout goes out of it."""
    incoming = [(column, 1.0) for (_, to), column in flow.items() if to == layout]
    outgoing = [(column, -1.0) for (source, _), column in flow.items() if source == layout]
    terms = [*supply, *incoming, *outgoing, *_negative(demand)]
    if terms:
        model.row(terms, 0.0, 0.0)


def _negative(terms: Terms) -> Terms:
    return [(column, -factor) for column, factor in terms]
