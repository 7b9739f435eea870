"""Regrets against enumeration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solve.large import Realistic, densenet, random_wired, residual_block
from tests.solve.networks import KINDS, small
from tvm_globalsel.problem import Infeasible, Problem
from tvm_globalsel.solve import exhaustive, pbqp, solve
from tvm_globalsel.solve.regret import regrets
from tvm_globalsel.solve.restrict import restricted


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_regret_is_what_the_best_plan_with_the_choice_costs_more(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    try:
        best = pbqp.solve(problem)
    except Infeasible:
        return
    costs = exhaustive.all_costs(problem)
    for most_entries in (1 << 20, 0):
        found = regrets(problem, best, most_entries)
        for index in range(len(problem.nodes)):
            pinned = costs.min(axis=tuple(axis for axis in range(costs.ndim) if axis != index))
            assert found[index] == pytest.approx(pinned - costs.min(), rel=1e-12, abs=1e-12 * costs.min())
            assert found[index][best.choice[index]] == 0.0


def resnet() -> Problem:
    net = Realistic(np.random.default_rng(1), 5)
    here = net.operator((net.source(),), 15)
    for _ in range(16):
        here = residual_block(net, here, 15)
    net.sink(here)
    return net.problem()


def test_regrets_of_a_network_as_large_as_resnet_agree_with_solving_again() -> None:
    problem = resnet()
    best = pbqp.solve(problem)
    found = regrets(problem, best)
    random = np.random.default_rng(0)
    for index in random.integers(0, len(problem.nodes), 30).tolist():
        choice = int(random.integers(problem.nodes[index].size))
        allowed = [np.ones(node.size, dtype=bool) for node in problem.nodes]
        allowed[index] = np.arange(problem.nodes[index].size) == choice
        again = pbqp.solve(restricted(problem, allowed)).cost_s
        assert found[index][choice] == pytest.approx(again - best.cost_s, abs=1e-12 * best.cost_s)


def test_regrets_do_not_depend_on_the_solution_being_optimal() -> None:
    problem = densenet((3, 3), 3, 5, 1)
    exact = regrets(problem, pbqp.solve(problem))
    local = solve(problem, "local")
    assert all(np.allclose(a, b) for a, b in zip(exact, regrets(problem, local), strict=True))
    assert sum(float(r[c]) for r, c in zip(exact, local.choice, strict=True)) > 0


def test_regrets_of_an_infeasible_problem() -> None:
    problem = densenet((2,), 2, 3, 1)
    best = pbqp.solve(problem)
    none = restricted(problem, [np.zeros(node.size, dtype=bool) for node in problem.nodes])
    with pytest.raises(Infeasible):
        regrets(none, best)


def test_regrets_of_a_network_too_dense_for_elimination_agree_with_solving_again() -> None:
    problem = random_wired(2, 8, 4, 6, 3)
    best = pbqp.solve(problem)
    exact, by_parts = regrets(problem, best), regrets(problem, best, most_entries=64)
    assert all(np.allclose(a, b, rtol=1e-9, atol=1e-12 * best.cost_s) for a, b in zip(exact, by_parts, strict=True))
    random = np.random.default_rng(0)
    for index in random.integers(0, len(problem.nodes), 10).tolist():
        choice = int(random.integers(problem.nodes[index].size))
        allowed = [np.ones(node.size, dtype=bool) for node in problem.nodes]
        allowed[index] = np.arange(problem.nodes[index].size) == choice
        again = pbqp.solve(restricted(problem, allowed)).cost_s
        assert by_parts[index][choice] == pytest.approx(again - best.cost_s, abs=1e-12 * best.cost_s)


def test_parts_that_have_nothing_to_do_with_each_other() -> None:
    """A node with one layout separates what is before and behind it; an impossible choice on one side stays one."""
    net = Realistic(np.random.default_rng(4), 3)
    here = net.source()
    for _ in range(2):
        here = residual_block(net, here, 5)
        here = net.add((here,), np.array([[0]]), np.array([0]))
    net.sink(here)
    problem = net.problem()
    costs_s = problem.nodes[1].costs_s.copy()
    costs_s[1] = np.inf
    nodes = list(problem.nodes)
    nodes[1] = dataclasses.replace(nodes[1], costs_s=costs_s)
    problem = dataclasses.replace(problem, nodes=tuple(nodes))
    best = pbqp.solve(problem)
    exact, by_parts = regrets(problem, best), regrets(problem, best, most_entries=0)
    assert by_parts[1][1] == np.inf
    assert all(np.allclose(a, b, rtol=1e-9, atol=1e-15) for a, b in zip(exact, by_parts, strict=True))


@pytest.mark.parametrize("most_entries", [1 << 20, 0])
def test_regrets_of_a_problem_that_no_single_node_makes_infeasible(most_entries: int) -> None:
    net = Realistic(np.random.default_rng(5), 3)
    here = net.operator((residual_block(net, net.source(), 4),), 4)
    net.sink(residual_block(net, here, 4))
    problem = net.problem()
    best = pbqp.solve(problem)
    stuck = np.where(np.eye(3, dtype=bool), 0.0, np.inf)
    nodes = list(problem.nodes)
    nodes[here] = dataclasses.replace(nodes[here], in_layouts=np.zeros((4, 1)), out_layout=np.ones(4))
    reader = problem.consumers[here][0][0]
    nodes[reader] = dataclasses.replace(nodes[reader], in_layouts=np.full(nodes[reader].in_layouts.shape, 2))
    none = Problem(problem.layouts, tuple(nodes), (stuck,) * len(nodes))
    with pytest.raises(Infeasible):
        pbqp.solve(none)
    with pytest.raises(Infeasible):
        regrets(none, dataclasses.replace(best, cost_s=np.inf, optimal=False), most_entries)
