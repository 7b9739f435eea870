"""Which node it is that makes a problem infeasible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tvm_globalsel.problem import Infeasible, Problem
from tvm_globalsel.solve.signatures import closed_transforms


def explain(problem: Problem, feasible: Callable[[Problem], bool]) -> Infeasible:
    """The error for a problem without a plan, naming the first node that cannot be satisfied with those before it.

    The first so many nodes of a network are a network as well, and more nodes never make one feasible: bisection.
    """
    good, bad = 0, len(problem.nodes)
    while bad - good > 1:
        middle = (good + bad) // 2
        if feasible(Problem(problem.layouts, problem.nodes[:middle], problem.transform_s[:middle])):
            good = middle
        else:
            bad = middle
    node = problem.nodes[bad - 1]
    usable = np.isfinite(node.costs_s)
    if not usable.any():
        return Infeasible(f"node {node.name!r} cannot be satisfied: each of its {node.size} choices is forbidden")
    closed_s = closed_transforms(problem)
    for slot, producer in enumerate(node.inputs):
        made = problem.nodes[producer]
        produced = np.unique(made.out_layout[np.isfinite(made.costs_s)])
        wanted = np.unique(node.in_layouts[usable, slot])
        if np.isinf(closed_s[producer][np.ix_(produced, wanted)]).all():
            return Infeasible(
                f"node {node.name!r} cannot be satisfied: its input {slot} comes from {made.name!r}, which is made in "
                f"{_names(problem, produced)} and cannot be turned into {_names(problem, wanted)}"
            )
    return Infeasible(
        f"node {node.name!r} cannot be satisfied together with the nodes before it: of its {int(usable.sum())} allowed "
        "choices, none can have all its inputs in the layouts it reads at the same time"
    )


def _names(problem: Problem, layouts: np.ndarray) -> str:
    return ", ".join(problem.layouts[layout] for layout in layouts)
