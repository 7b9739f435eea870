"""Smaller weights for a little more time, by enumeration of all plans."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.solve.networks import KINDS, small
from tests.solve.test_memory import plans
from tests.solve.test_optimum import SEEDS, many
from tvm_globalsel.problem import NodeChoices, Problem, plan_cost
from tvm_globalsel.solve import frugal, pbqp

_ROUNDING = 1e-9


@many(150)
@given(st.sampled_from(KINDS), SEEDS, st.sampled_from([0.0, 0.02, 0.2, 1.0]))
def test_the_hull_by_enumeration(kind: str, seed: int, slack: float) -> None:
    problem = small(kind, seed, most_plans=40)
    random = np.random.default_rng(seed)
    weights = [random.integers(0, 200, node.size) * int(bool(node.inputs)) for node in problem.nodes]
    every = plans(problem)
    if not every:
        return
    costs_s = np.array([plan_cost(problem, plan) for plan in every])
    needed = np.array([sum(int(own[c]) for own, c in zip(weights, plan, strict=True)) for plan in every])
    fastest = pbqp.solve(problem)
    found = frugal.solve(problem, weights, slack, fastest)

    most_s = fastest.cost_s * (1 + slack) * (1 + _ROUNDING)
    assert found.cost_s == pytest.approx(plan_cost(problem, found.choice)) and found.cost_s <= most_s
    assert found.weight_bytes == needed[every.index(found.choice)] <= found.fastest_weight_bytes
    assert found.least_weight_bytes <= needed[costs_s <= most_s].min() <= found.weight_bytes
    # no corner of the hull within the slack is smaller
    for i, j in itertools.combinations(range(len(every)), 2):
        if needed[i] != needed[j] and (price_s := (costs_s[i] - costs_s[j]) / (needed[j] - needed[i])) >= 0:
            priced_s = costs_s + price_s * needed
            best = np.flatnonzero(priced_s <= priced_s.min() * (1 + _ROUNDING))
            for corner in (best[needed[best].argmin()], best[needed[best].argmax()]):
                assert costs_s[corner] > most_s or found.weight_bytes <= needed[corner]


def _one_node(costs_s: list[float]) -> Problem:
    """Choice ``i`` of the only node costs ``costs_s[i]``."""
    count = len(costs_s)
    zeros = np.zeros(count, dtype=int)
    labels = tuple(f"v{i}" for i in range(count))
    node = NodeChoices("n", np.array(costs_s), zeros, np.zeros((count, 0), dtype=int), (), labels)
    return Problem(("a",), (node,), (np.zeros((1, 1)),))


@pytest.mark.parametrize(("slack", "choice"), [(0.0, 0), (0.05, 0), (0.1, 2), (0.5, 3)])
def test_each_slack_buys_what_it_can(slack: float, choice: int) -> None:
    problem = _one_node([1.0, 1.04, 1.08, 1.5])
    weights = [np.array([100.0, 99.0, 60.0, 50.0])]  # the second lies above the hull
    fastest = pbqp.solve(problem)
    found = frugal.solve(problem, weights, slack, fastest)
    assert found.choice == (choice,)
    assert found.lower_bound_s == 1.0 and found.optimal == (choice == 0)
    assert found.least_weight_bytes <= found.weight_bytes


def test_equal_layers_change_one_by_one() -> None:
    zeros, reads = np.zeros(2, dtype=int), np.zeros((2, 0), dtype=int)
    nodes = [NodeChoices(name, np.array([1.0, 1.02]), zeros, reads, (), ("v0", "v1")) for name in "abcd"]
    problem = Problem(("a",), tuple(nodes), (np.zeros((1, 1)),) * 4)
    found = frugal.solve(problem, [np.array([100.0, 10.0])] * 4, 0.0101, pbqp.solve(problem))
    assert sum(found.choice) == 2 and found.weight_bytes == 220.0
    assert 218.0 <= found.least_weight_bytes <= 220.0


def test_nothing_to_save() -> None:
    problem = _one_node([1.0, 1.1])
    fastest = pbqp.solve(problem)
    found = frugal.solve(problem, [np.zeros(2)], 1.0, fastest)
    assert dataclasses.replace(found, seconds=0.0) == frugal.Frugal(
        (0,), 1.0, 1.0, 0.0, True, "pbqp", 0.0, {**fastest.reductions, "prices": 0}
    )
