"""Baseline: one family of convolution algorithms alone, as the CGO 2018 paper compares them (direct, im2, kn2, ...)."""

from __future__ import annotations

import numpy as np

from tvm_globalsel.problem import NodeChoices, Problem, Solution
from tvm_globalsel.solve.restrict import best_within

_TEXTBOOK = "sum2d"


def families(problem: Problem) -> tuple[str, ...]:
    """The families that some convolution has a finite choice of, in alphabetical order."""
    return tuple(sorted({
        name for node in problem.nodes if _is_convolution(node)
        for name, cost_s in zip(node.families, node.costs_s, strict=True) if np.isfinite(cost_s)
    }))  # fmt: skip


def solve(problem: Problem, family: str) -> Solution:
    """The best plan in which each convolution uses ``family`` where it can, and the textbook loop nest elsewhere.

    A convolution is a node that has the textbook loop nest among its choices. All other operators, and the transforms,
    are chosen freely, so that the plan is exact within the restriction. Raises ValueError for a family that no
    convolution has, Infeasible when the restriction leaves no plan (a convolution has neither of the two).
    """
    known = families(problem)
    if family not in known:
        raise ValueError(f"no convolution has the family {family!r}; there are {', '.join(known) or 'none'}")
    return best_within(problem, [_alone(node, family) for node in problem.nodes], f"family:{family}")


def _is_convolution(node: NodeChoices) -> bool:
    return _TEXTBOOK in node.families


def _alone(node: NodeChoices, family: str) -> np.ndarray:
    if not _is_convolution(node):
        return np.ones(node.size, dtype=bool)
    names = np.array(node.families)
    wanted = (names == family) & np.isfinite(node.costs_s)
    return wanted if wanted.any() else names == _TEXTBOOK
