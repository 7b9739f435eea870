"""A problem with fewer choices: pins, prohibitions, and the baselines that are exact within a restriction."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from tvm_globalsel.deferral import DEFERRED, source_layout
from tvm_globalsel.problem import NodeChoices, Problem, Solution, plan_cost
from tvm_globalsel.solve import pbqp


def restricted(problem: Problem, allowed: Sequence[np.ndarray]) -> Problem:
    """The problem in which all choices but those ``allowed`` (one boolean array a node) are forbidden.

    Choices keep their numbers, so that a plan of one problem is a plan of the other.
    """
    nodes = tuple(forbid(node, keep) for node, keep in zip(problem.nodes, allowed, strict=True))
    return dataclasses.replace(problem, nodes=nodes)


def forbid(node: NodeChoices, keep: np.ndarray) -> NodeChoices:
    """The node with every choice forbidden that ``keep`` does not name."""
    if keep.all():
        return node
    return dataclasses.replace(node, costs_s=np.where(keep, node.costs_s, np.inf))


def separate(problem: Problem) -> Problem:
    """The problem in which every operator runs by itself: what a kernel could do for two is left out."""
    return restricted(problem, [np.array([f != DEFERRED for f in node.families]) for node in problem.nodes])


def stored_layouts(problem: Problem) -> list[str]:
    """The layouts of rank-4 tensors that some choice of finite cost makes."""
    used = {int(layout) for node in problem.nodes for layout in node.out_layout[np.isfinite(node.costs_s)]}
    names = [problem.layouts[i] for i in sorted(used)]
    return [name for name in names if name != "plain" and source_layout(name) is None]


def best_within(problem: Problem, allowed: Sequence[np.ndarray], solver: str) -> Solution:
    """The best plan among the choices allowed, as the answer of a baseline: nothing is proven about other plans."""
    started = time.perf_counter()
    found = pbqp.solve(restricted(problem, allowed))
    return baseline(problem, found.choice, solver, started)


def baseline(problem: Problem, choice: Sequence[int], solver: str, started: float) -> Solution:
    """A plan without any claim of being optimal; ``started`` is the ``time.perf_counter`` at which work began."""
    return Solution(
        choice=tuple(choice),
        cost_s=plan_cost(problem, choice),
        lower_bound_s=-np.inf,
        gap=np.inf,
        optimal=False,
        solver=solver,
        seconds=time.perf_counter() - started,
    )
