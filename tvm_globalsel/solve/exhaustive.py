"""The oracle: every plan of a small problem is priced. It shares only arborescence prices with the other solvers."""

from __future__ import annotations

import math
import time

import numpy as np

from tvm_globalsel.arborescence import shortest_paths, steiner_costs
from tvm_globalsel.problem import Infeasible, Problem, Solution, plan_cost

_MOST_PLANS = 4_000_000


def all_costs(problem: Problem) -> np.ndarray:
    """Seconds of every plan: one axis for each node, over its choices.

    Raises ValueError for more than some million plans.
    """
    sizes = tuple(node.size for node in problem.nodes)
    if math.prod(sizes) > _MOST_PLANS:
        raise ValueError(
            f"this network has {math.prod(sizes)} plans; enumeration stops at {_MOST_PLANS}: use pbqp or milp instead"
        )
    if len(sizes) > 60:
        raise ValueError(f"this network has {len(sizes)} nodes; enumeration stops at 60: use pbqp or milp instead")

    def along(node: int, values: np.ndarray) -> np.ndarray:
        return values.reshape([-1 if axis == node else 1 for axis in range(len(sizes))])

    layouts = len(problem.layouts)
    total = np.zeros(sizes)
    for index, node in enumerate(problem.nodes):
        total += along(index, node.costs_s)
        demanded = np.zeros((1,) * len(sizes), dtype=np.int64)
        for reader, slot in problem.consumers[index]:
            demanded = demanded | along(reader, 1 << problem.nodes[reader].in_layouts[:, slot])
        if problem.consumers[index]:
            closed_s = shortest_paths(problem.transform_s[index])
            prices = steiner_costs(closed_s[None], tuple(range(layouts)), layouts)[0]
            total += prices[along(index, node.out_layout), demanded]
    return total


def solve(problem: Problem) -> Solution:
    """The plan of least cost, the first of several. Raises ValueError when there are too many plans to price."""
    started = time.perf_counter()
    costs = all_costs(problem)
    at = int(np.argmin(costs))
    if np.isinf(costs.flat[at]):
        raise Infeasible(f"each of the {costs.size} plans is forbidden")
    choice = tuple(int(part) for part in np.unravel_index(at, costs.shape))
    cost_s = plan_cost(problem, choice)
    return Solution(
        choice=choice,
        cost_s=cost_s,
        lower_bound_s=cost_s,
        gap=0.0,
        optimal=True,
        solver="exhaustive",
        seconds=time.perf_counter() - started,
        reductions={"plans": costs.size},
    )
