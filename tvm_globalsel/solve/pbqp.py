"""The exact solver: partitioned boolean quadratic programming, proven optimal on graphs of any shape.

Anderson and Gregg, "Optimal DNN primitive selection with partitioned boolean quadratic programming" (CGO 2018), with
the transforms of a tensor shared by its consumers, and with branch and bound where their heuristic RN would guess.
"""

from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np

from tvm_globalsel.problem import Infeasible, Problem, Solution, plan_cost
from tvm_globalsel.solve.branch import MOST_ENTRIES, Search, minimise
from tvm_globalsel.solve.encode import encode
from tvm_globalsel.solve.infeasible import explain


def solve(problem: Problem, most_entries: int = MOST_ENTRIES) -> Solution:
    """The plan of least cost. ``most_entries`` bounds the tables of variable elimination; beyond, the search branches.

    Raises Infeasible when no plan has a finite cost.
    """
    started = time.perf_counter()
    encoded = encode(problem)
    counts: Counter[str] = Counter({name: 0 for name in ("R0", "RI", "RII", "eliminated", "parts", "branch nodes")})
    counts["fan-out nodes"] = encoded.fan_outs
    counts["choices kept"] = sum(known.choice.size for known in encoded.signatures)
    outcome = minimise(encoded.graph, np.inf, Search(counts, most_entries))
    if outcome is None:
        raise explain(problem, feasible)
    choice = encoded.plan(outcome.assignment)
    cost_s = plan_cost(problem, choice)
    if not math.isclose(cost_s, outcome.cost, rel_tol=1e-9):
        raise AssertionError(f"the encoding prices the plan at {outcome.cost}, plan_cost at {cost_s}")
    return Solution(
        choice=choice,
        cost_s=cost_s,
        lower_bound_s=cost_s,
        gap=0.0,
        optimal=True,
        solver="pbqp",
        seconds=time.perf_counter() - started,
        reductions=dict(counts),
    )


def feasible(problem: Problem) -> bool:
    """Whether any plan has a finite cost."""
    try:
        graph = encode(problem).graph
    except Infeasible:
        return False
    return minimise(graph, np.inf, Search(Counter())) is not None
