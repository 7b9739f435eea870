"""Baseline: the textbook loop nest for every operator that has one, which the CGO 2018 paper normalises to."""

from __future__ import annotations

import numpy as np

from tvm_globalsel.problem import Problem, Solution
from tvm_globalsel.solve.restrict import best_within
from tvm_globalsel.solve.single import only_in


def solve(problem: Problem, family: str = "sum2d") -> Solution:
    """The best plan in which each node with choices of ``family`` uses one of them and the others the first layout.

    Exact within that restriction. Raises Infeasible when the restriction leaves no plan.
    """
    allowed = []
    for node in problem.nodes:
        of_family = np.array([name == family for name in node.families]) & np.isfinite(node.costs_s)
        allowed.append(of_family if of_family.any() else only_in(node, 0))
    return best_within(problem, allowed, family)
