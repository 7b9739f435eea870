"""Baseline: one operator after the other takes what is cheapest given its producers, transforms included."""

from __future__ import annotations

import time

import numpy as np

from tvm_globalsel.arborescence import shortest_paths, steiner_costs
from tvm_globalsel.problem import Problem, Solution
from tvm_globalsel.solve import pbqp
from tvm_globalsel.solve.infeasible import explain
from tvm_globalsel.solve.restrict import baseline, restricted, separate


def solve(problem: Problem) -> Solution:
    """Nodes choose in topological order, each paying for its cost and for the transforms its inputs then need anew.

    When that runs into a dead end, it starts again and takes at each node only what can still be completed.
    Raises Infeasible when no plan has a finite cost.
    """
    started = time.perf_counter()
    problem = separate(problem)  # being deferred costs nothing at once, and would always be taken
    choice = _choose(problem, careful=False)
    if choice is None:
        if not pbqp.feasible(problem):
            raise explain(problem, pbqp.feasible)
        choice = _choose(problem, careful=True)
        assert choice is not None, "a feasible problem has a plan"
    return baseline(problem, choice, "greedy", started)


def _choose(problem: Problem, careful: bool) -> list[int] | None:
    every_layout = tuple(range(len(problem.layouts)))
    demanded = [0] * len(problem.nodes)  # bit masks of layouts
    prices: list[np.ndarray] = []  # seconds for each set of layouts, from the layout that the node chose
    allowed = [np.isfinite(node.costs_s) for node in problem.nodes]
    choice: list[int] = []
    for index, node in enumerate(problem.nodes):
        total = node.costs_s.copy()
        for producer in set(node.inputs):
            slots = [slot for slot, other in enumerate(node.inputs) if other == producer]
            sets = np.bitwise_or.reduce(1 << node.in_layouts[:, slots], axis=1) | demanded[producer]
            total += prices[producer][sets] - prices[producer][demanded[producer]]
        for chosen in np.argsort(total, kind="stable").tolist():
            if total[chosen] == np.inf:
                return None
            only = np.zeros(node.size, dtype=bool)
            only[chosen] = True
            if not careful or pbqp.feasible(restricted(problem, [*allowed[:index], only, *allowed[index + 1 :]])):
                break
        allowed[index] = only
        choice.append(chosen)
        for slot, producer in enumerate(node.inputs):
            demanded[producer] |= 1 << int(node.in_layouts[chosen, slot])
        closed_s = shortest_paths(problem.transform_s[index])
        most = min(len(problem.consumers[index]), len(every_layout))
        prices.append(steiner_costs(closed_s[None], every_layout, most)[0, node.out_layout[chosen]])
    return choice
