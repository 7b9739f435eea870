"""Baseline: the whole network in one layout, as far as that goes; what a fixed choice of layout can reach at best."""

from __future__ import annotations

import numpy as np

from tvm_globalsel.problem import NodeChoices, Problem, Solution
from tvm_globalsel.solve.restrict import best_within


def solve(problem: Problem, layout: str) -> Solution:
    """The best plan in which every operator that can reads and writes nothing but ``layout``.

    The other operators, and graph inputs and outputs, may use any of their choices with the transforms paid. Exact
    within that restriction. Raises ValueError for an unknown layout, Infeasible when the restriction leaves no plan.
    """
    if layout not in problem.layouts:
        raise ValueError(f"there is no layout {layout!r}; this problem has {', '.join(problem.layouts)}")
    index = problem.layouts.index(layout)
    return best_within(problem, [only_in(node, index) for node in problem.nodes], f"single:{layout}")


def only_in(node: NodeChoices, layout: int) -> np.ndarray:
    """The choices of the node that read and write only this layout; all choices when there is none."""
    pure = np.isfinite(node.costs_s) & (node.out_layout == layout) & (node.in_layouts == layout).all(1)
    return pure if pure.any() else np.ones(node.size, dtype=bool)
