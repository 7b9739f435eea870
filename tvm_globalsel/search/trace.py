"""Quality of the plan as measuring goes on, for the search and for the orders it is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.measure import Request, Tuning
from tvm_globalsel.problem import Infeasible
from tvm_globalsel.search.loop import Found, Search
from tvm_globalsel.search.space import Plan, Space


@dataclass(frozen=True)
class Point:
    """After ``seconds`` and ``kernels``, the best plan of what was measured costs ``cost_s`` (infinite: none yet).

    ``used``: the candidates that it runs.
    """

    seconds: float
    kernels: int
    cost_s: float
    used: frozenset[int]


Measure = Callable[[list[Request], bool], Tuning]


def of_search(
    state: Search, measure: Measure, clock: Callable[[], float], tolerance: float, budget_s: float
) -> tuple[list[Point], Found]:
    """The search's own rounds."""
    points: list[Point] = []
    start, kernels = clock(), 0

    def counted(requests: list[Request], required: bool) -> Tuning:
        nonlocal kernels
        done = measure(requests, required)
        kernels += done.measured
        return done

    def watch(rounds: int, plan: Plan | None) -> None:
        points.append(_point(clock() - start, kernels, plan))

    found = state.run(counted, tolerance, budget_s, clock, watch=watch)
    return points, found


def of_order(
    state: Search, space: Space, order: list[int], wave: int, measure: Measure, clock: Callable[[], float],
    budget_s: float,
) -> list[Point]:  # fmt: skip
    """All candidates in a given order, ``wave`` of them a round."""
    points = []
    start, kernels = clock(), 0
    for first in range(0, len(order), wave):
        if clock() - start >= budget_s:
            break
        kernels += measure([space.requests[i] for i in order[first : first + wave]], False).measured
        points.append(_point(clock() - start, kernels, state.incumbent()))
    return points


def _point(seconds: float, kernels: int, plan: Plan | None) -> Point:
    return Point(seconds, kernels, plan.cost_s if plan else np.inf, plan.used if plan else frozenset())


def repriced(points: list[Point], space: Space, costs_s: np.ndarray) -> list[Point]:
    """The same plans by other costs: those found with different measurements can be compared by common ones only."""
    found = []
    for point in points:
        only = np.full(len(space), np.inf)
        only[list(point.used)] = costs_s[list(point.used)]
        found.append(dataclasses.replace(point, cost_s=optimum_s(space, only) if point.used else np.inf))
    return found


def reached(points: list[Point], cost_s: float) -> Point | None:
    """The first point whose plan costs no more than ``cost_s``."""
    return next((point for point in points if point.cost_s <= cost_s), None)


def optimum_s(space: Space, costs_s: np.ndarray) -> float:
    """The best plan for these costs; infinite when there is none."""
    try:
        return space.best(costs_s).cost_s
    except Infeasible:
        return float("inf")
