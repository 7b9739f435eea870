"""A smaller plan for a little more time: the least bytes of weights that the exact solver finds within a slack.

Lagrangian relaxation (Everett, Operations Research 11, 1963): with a price on each byte the solver finds the plan of
the least seconds plus price times bytes, exactly. Raising the price walks along the lower convex hull of seconds
against bytes, as far as the slack allows; duality then bounds what any other plan within it could save beyond that.
Equal layers change all at once there, so what is left of the slack is spent on one after the other.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.problem import Problem, Solution, plan_cost, relative_gap
from tvm_globalsel.solve import pbqp

#: What the first price makes of all bytes of the fastest plan, in times its seconds: only bytes count.
_ALL_FOR_BYTES = 1e3
#: Two plans that differ by less, relatively, are equally good at a price: sums are rounded.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Frugal(Solution):
    """A plan that takes longer than the fastest by at most a slack; ``lower_bound_s`` is that one's.

    ``weight_bytes`` in place of the fastest plan's ``fastest_weight_bytes``; no plan within the slack needs less than
    ``least_weight_bytes``.
    """

    weight_bytes: float = 0.0
    fastest_weight_bytes: float = 0.0
    least_weight_bytes: float = 0.0


@dataclass(frozen=True)
class _Point:
    choice: tuple[int, ...]
    cost_s: float
    weight_bytes: float

    def at(self, price_s: float) -> float:
        """Seconds, with what its bytes cost."""
        return self.cost_s + price_s * self.weight_bytes


def solve(problem: Problem, weight_bytes: Sequence[np.ndarray], slack: float, fastest: Solution) -> Frugal:
    """A plan of few bytes that takes at most ``(1 + slack)`` times as long as ``fastest``, an optimum.

    None on the hull is smaller. ``weight_bytes`` has one array ``(choices,)`` a node.
    """
    started = time.perf_counter()

    def point(choice: tuple[int, ...]) -> _Point:
        needed = sum(float(own[c]) for own, c in zip(weight_bytes, choice, strict=True))
        return _Point(choice, plan_cost(problem, choice), needed)

    def best(price_s: float) -> _Point:
        nodes = tuple(
            dataclasses.replace(node, costs_s=node.costs_s + price_s * own)
            for node, own in zip(problem.nodes, weight_bytes, strict=True)
        )
        return point(pbqp.solve(dataclasses.replace(problem, nodes=nodes)).choice)

    first = point(fastest.choice)
    most_s = first.cost_s * (1 + slack)
    near, far, least, solved = _walk(first, most_s, best) if first.weight_bytes else (first, first, 0.0, 0)
    near = _part_of_the_way(near, far, most_s, point)
    return Frugal(
        choice=near.choice,
        cost_s=near.cost_s,
        lower_bound_s=fastest.lower_bound_s,
        gap=relative_gap(near.cost_s, fastest.lower_bound_s),
        optimal=fastest.optimal and near.choice == fastest.choice,
        solver=fastest.solver,
        seconds=fastest.seconds + time.perf_counter() - started,
        reductions={**fastest.reductions, "prices": solved},
        weight_bytes=near.weight_bytes,
        fastest_weight_bytes=first.weight_bytes,
        least_weight_bytes=least,
    )


def _walk(first: _Point, most_s: float, best: Callable[[float], _Point]) -> tuple[_Point, _Point, float, int]:
    """(the hull's smallest plan within ``most_s``, its next one, least bytes of any plan within, prices tried)."""
    price_s = _ALL_FOR_BYTES * (first.cost_s or 1.0) / first.weight_bytes
    near, far, tried = first, best(price_s), 1
    if far.cost_s <= most_s:
        return far, far, _least(far, price_s, most_s), tried
    while far.weight_bytes < near.weight_bytes:
        # at this price both are equally good; if nothing is better, they are neighbours on the hull
        price_s = (far.cost_s - near.cost_s) / (near.weight_bytes - far.weight_bytes)
        between = best(price_s)
        tried += 1
        if between.at(price_s) >= near.at(price_s) * (1 - _ROUNDING):
            return near, far, _least(near, price_s, most_s), tried
        near, far = (between, far) if between.cost_s <= most_s else (near, between)
    return near, far, near.weight_bytes, tried


def _least(one: _Point, price_s: float, most_s: float) -> float:
    """Bytes that no plan within ``most_s`` falls short of, because none costs less than ``one`` at that price."""
    bound = one.weight_bytes - (most_s - one.cost_s) / price_s
    return max(0.0, math.floor(bound * (1 - _ROUNDING)))


def _part_of_the_way(near: _Point, far: _Point, most_s: float, point: Callable[[tuple[int, ...]], _Point]) -> _Point:
    """``near`` with choices of ``far`` for as many single nodes as ``most_s`` allows, each for fewer bytes."""
    for index, choice in enumerate(far.choice):
        if choice != near.choice[index]:
            other = point((*near.choice[:index], choice, *near.choice[index + 1 :]))
            if other.weight_bytes < near.weight_bytes and other.cost_s <= most_s:
                near = other
    return near
