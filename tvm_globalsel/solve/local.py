"""Baseline: the fastest variant for each operator by itself, then whatever transforms that takes: a local autotuner."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from tvm_globalsel.problem import Infeasible, Problem, Solution
from tvm_globalsel.solve import pbqp
from tvm_globalsel.solve.restrict import baseline, restricted, separate


def solve(problem: Problem) -> Solution:
    """Every node takes its cheapest choice; equals are decided by fewer changes of layout, then by less time in them.

    Pairs are left out: each operator runs by itself. When the cheapest choices cannot be combined, the plan has the
    least sum of node costs among those that can.
    """
    started = time.perf_counter()
    problem = separate(problem)
    fastest = restricted(problem, [node.costs_s == node.costs_s.min() for node in problem.nodes])
    try:
        found = pbqp.solve(dataclasses.replace(fastest, transform_s=_counted(problem)))
    except Infeasible:
        found = pbqp.solve(dataclasses.replace(problem, transform_s=_free(problem)))
    return baseline(problem, found.choice, "local", started)


def _counted(problem: Problem) -> tuple[np.ndarray, ...]:
    """Transform tables by which the fewest changes of layout win, and the fastest among equally many."""
    finite = [np.where(np.isfinite(table), table, 0.0) for table in problem.transform_s]
    most = sum(float(table.sum()) for table in finite) or 1.0  # no plan spends more than all transforms together
    return tuple(np.where(np.isfinite(table), (table > 0) + table / most, np.inf) for table in problem.transform_s)


def _free(problem: Problem) -> tuple[np.ndarray, ...]:
    """Transform tables that only say what is possible."""
    return tuple(np.where(np.isfinite(table), 0.0, np.inf) for table in problem.transform_s)
