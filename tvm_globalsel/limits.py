"""Optima within limits on memory and error, what no plan can keep, and the fronts of time against either."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.demands import ERROR, MEMORY, ROUNDING, Account, Demands
from tvm_globalsel.errors import UserError
from tvm_globalsel.problem import Infeasible, Solution
from tvm_globalsel.solve import milp, pbqp


def within(needs: Account, demands: Demands, free: Solution) -> Solution:
    """The best plan within the limits. ``free`` is the optimum without them.

    Raises :class:`UserError` that names the limit which cannot be kept, and the nearest value that can.
    """
    memory, error = _memory(needs, demands.max_memory_bytes), _error(needs, demands.max_error)
    try:
        return milp.solve(needs.problem, [error] if error else [], demands.time_limit_s, memory)
    except Infeasible as infeasible:
        raise UserError(*_nearest(needs, demands, memory, error, free)) from infeasible
    except TimeoutError as late:
        raise UserError(
            f"no plan within {_limits(demands)} was found in {demands.time_limit_s:.0f} s, nor proven impossible",
            "loosen the limits; 'globalsel pareto' shows what can be had",
        ) from late


def _memory(needs: Account, most_bytes: int | None) -> milp.MemoryLimit | None:
    return None if most_bytes is None else milp.MemoryLimit(MEMORY, needs.memory, most_bytes)


def _error(needs: Account, most: float | None) -> milp.Limit | None:
    return None if most is None else milp.Limit(ERROR, needs.errors, most * (1 + ROUNDING))


def _limits(demands: Demands) -> str:
    return " and ".join(
        text for text, given in (
            (f"{MEMORY} {demands.max_memory_bytes}", demands.max_memory_bytes),
            (f"{ERROR} {demands.max_error}", demands.max_error),
        ) if given is not None
    )  # fmt: skip


def _nearest(
    needs: Account, demands: Demands, memory: milp.MemoryLimit | None, error: milp.Limit | None, free: Solution
) -> tuple[str, str]:
    """What is wrong with the limits, and what to ask for instead."""
    seconds = demands.time_limit_s
    least_bytes = milp.least(needs.problem, memory, time_limit_s=seconds) if memory else None
    least_error = milp.least(needs.problem, error, time_limit_s=seconds) if error else None
    if memory and least_bytes and least_bytes.value > memory.most_bytes:
        return (
            f"{MEMORY} {memory.most_bytes} cannot be kept: {_least(least_bytes)} {least_bytes.value:.0f} bytes "
            f"(the fastest plan {needs.peak(free).total_bytes})",
            f"ask for {MEMORY} {least_bytes.value:.0f} or more",
        )
    if error and least_error and least_error.value > error.most:
        shown = _up(least_error.value)
        return (
            f"{ERROR} {demands.max_error:g} cannot be kept: {_least(least_error)} {shown} "
            f"(the fastest plan {needs.error(free):.3g})",
            f"ask for {ERROR} {shown} or more",
        )
    assert memory and error
    with_memory = milp.least(needs.problem, error, memory=memory, time_limit_s=seconds)
    with_error = milp.least(needs.problem, memory, [error], time_limit_s=seconds)
    return (
        f"{_limits(demands)} cannot be kept together, though each alone can",
        f"with this {MEMORY} ask for {ERROR} {_up(with_memory.value)} or more, "
        f"with this {ERROR} for {MEMORY} {with_error.value:.0f} or more",
    )


def _least(least: milp.Least) -> str:
    return "every plan needs at least" if least.proven else "the best plan found needs"


def _up(value: float) -> str:
    """Three digits, rounded up, so that the number can be asked for."""
    if value <= 0:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    shown = f"{math.ceil(value / unit * (1 - 1e-12)) * unit:.2e}"
    return shown if float(shown) >= value else f"{float(shown) + unit:.2e}"


@dataclass(frozen=True)
class Point:
    """A plan on a front: no faster plan needs as little of what the front is about."""

    solution: Solution
    peak_bytes: int
    error: float


def memory_front(needs: Account, points: int, time_limit_s: float) -> list[Point]:
    """Time against peak memory, from the fastest plan to the most frugal one; ``points`` plans at most."""
    fastest = _point(needs, pbqp.solve(needs.problem))
    limit = milp.MemoryLimit(MEMORY, needs.memory, fastest.peak_bytes)
    least = milp.least(needs.problem, limit, time_limit_s=time_limit_s).value
    front = [fastest]
    for most in np.geomspace(fastest.peak_bytes, least, points)[1:]:
        most_bytes = max(int(least), math.floor(most))
        if most_bytes >= front[-1].peak_bytes:
            continue
        _extend(front, needs, Demands(max_memory_bytes=most_bytes, time_limit_s=time_limit_s))
    return [p for p in front if not any(_beats(q, p, q.peak_bytes, p.peak_bytes) for q in front)]


def error_front(needs: Account, points: int, time_limit_s: float) -> list[Point]:
    """Time against accumulated error, from the fastest plan to the most accurate one; ``points`` plans at most."""
    fastest = _point(needs, pbqp.solve(needs.problem))
    least = milp.least(needs.problem, milp.Limit(ERROR, needs.errors, fastest.error), time_limit_s=time_limit_s).value
    front = [fastest]
    if least <= 0:
        return front
    for most in np.geomspace(fastest.error, least, points)[1:]:
        if most < front[-1].error:
            _extend(front, needs, Demands(max_error=max(float(most), least), time_limit_s=time_limit_s))
    return [p for p in front if not any(_beats(q, p, q.error, p.error) for q in front)]


def _extend(front: list[Point], needs: Account, demands: Demands) -> None:
    try:
        front.append(_point(needs, within(needs, demands, front[0].solution)))
    except UserError:  # not found in time: the front has one point less
        return


def _point(needs: Account, solution: Solution) -> Point:
    return Point(solution, needs.peak(solution).total_bytes, needs.error(solution))


def _beats(one: Point, other: Point, ones: float, others: float) -> bool:
    no_worse = one.solution.cost_s <= other.solution.cost_s and ones <= others
    return no_worse and (one.solution.cost_s < other.solution.cost_s or ones < others)
