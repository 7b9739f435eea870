"""Baselines do what they say, never beat the optimum, and claim no proof."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solve.large import blocks
from tests.solve.networks import KINDS, small
from tests.solve.trinnity import alexnet
from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, plan_cost
from tvm_globalsel.solve import exhaustive, pbqp, solve
from tvm_globalsel.solve.family import families as families_of
from tvm_globalsel.solve.restrict import restricted
from tvm_globalsel.solve.single import only_in

COMMON = settings(max_examples=300, deadline=None, derandomize=True, database=None)
BASELINES = ("local", "greedy", "single:L0", "sum2d")


@COMMON
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_baselines_are_feasible_and_no_better_than_the_optimum(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    try:
        best = pbqp.solve(problem)
    except Infeasible:
        for solver in BASELINES:
            with pytest.raises(Infeasible):
                solve(problem, solver)
        return
    for solver in BASELINES:
        try:
            found = solve(problem, solver)
        except Infeasible:
            assert solver in ("single:L0", "sum2d")  # a restriction may leave nothing; the others always find a plan
            continue
        assert found.solver == solver
        assert found.cost_s == plan_cost(problem, found.choice) < np.inf
        assert found.cost_s >= best.cost_s - 1e-9
        assert not found.optimal and found.lower_bound_s == -np.inf


@COMMON
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_single_layout_is_the_best_within_its_restriction(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    layout = len(problem.layouts) - 1
    within = restricted(problem, [only_in(node, layout) for node in problem.nodes])
    costs = exhaustive.all_costs(within)
    try:
        assert solve(problem, f"single:L{layout}").cost_s == pytest.approx(costs.min(), rel=1e-12)
    except Infeasible:
        assert costs.min() == np.inf


@COMMON
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_a_family_alone_leaves_what_it_cannot_do_to_the_textbook_loops(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes = []
    for node in small(kind, seed).nodes:
        families = ["sum2d", *random.choice(["winograd", "direct"], node.size - 1)]
        nodes.append(dataclasses.replace(node, families=tuple(families if node.size > 1 else [""])))
    problem = dataclasses.replace(small(kind, seed), nodes=tuple(nodes))
    allowed = []
    for node in nodes:
        finite = np.isfinite(node.costs_s)
        own = [number for number, name in enumerate(node.families) if name == "winograd" and finite[number]]
        allowed.append(np.isin(np.arange(node.size), own or [0]) if node.size > 1 else np.ones(1, dtype=bool))
    try:
        found = solve(problem, "family:winograd")
    except Infeasible:
        assert exhaustive.all_costs(restricted(problem, allowed)).min() == np.inf
        return
    except ValueError as error:
        assert "winograd" not in families_of(problem) and "no convolution has the family" in str(error)
        return
    assert found.solver == "family:winograd" and not found.optimal
    assert found.cost_s == pytest.approx(exhaustive.all_costs(restricted(problem, allowed)).min(), rel=1e-12)


@COMMON
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_local_takes_the_fastest_of_each_wherever_that_is_possible(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    fastest = restricted(problem, [node.costs_s == node.costs_s.min() for node in problem.nodes])
    possible = exhaustive.all_costs(fastest).min() < np.inf
    try:
        found = solve(problem, "local")
    except Infeasible:
        assert not possible
        return
    alone = [float(node.costs_s[chosen]) for node, chosen in zip(problem.nodes, found.choice, strict=True)]
    if possible:
        assert alone == [float(node.costs_s.min()) for node in problem.nodes]


def test_local_decides_equals_by_fewer_transforms_then_by_their_time() -> None:
    def node(name: str, layouts: list[int], inputs: tuple[int, ...]) -> NodeChoices:
        reads = np.repeat(np.array(layouts)[:, None], len(inputs), 1)
        labels = tuple(str(layout) for layout in layouts)
        return NodeChoices(name, np.ones(len(layouts)), np.array(layouts), reads, inputs, labels)

    nodes = (node("x", [0], ()), node("a", [2, 1], (0,)), node("b", [1], (1,)))
    table = np.array([[0, 9.0, 9.0], [9, 0, 9], [9, 1.0, 0]])
    problem = Problem(("P", "Q", "R"), nodes, (table,) * 3)
    assert solve(problem, "local").choice == (0, 1, 0)  # P to Q for 9, not P to R to Q for 10
    table = np.array([[0, 9.0, 1.0], [9, 0, 9], [9, 1.0, 0]])
    problem = Problem(("P", "Q", "R"), nodes, (table,) * 3)
    assert solve(problem, "local").choice == (0, 1, 0)  # still one change of layout, although two would be faster
    nodes = (*nodes[:2], node("b", [0], (1,)))
    table = np.array([[0, 9.0, 3.0], [1, 0, 9], [3, 9.0, 0]])
    problem = Problem(("P", "Q", "R"), nodes, (table,) * 3)
    assert solve(problem, "local").choice == (0, 0, 0)  # two changes either way: 3 + 3, not 9 + 1


def test_greedy_pays_for_a_shared_transform_once() -> None:
    def node(name: str, costs: list[float], reads: list[list[int]], inputs: tuple[int, ...]) -> NodeChoices:
        layouts = np.array([row[0] if row else 0 for row in reads])
        return NodeChoices(name, np.array(costs), layouts, np.array(reads), inputs, ("v",) * len(costs))

    nodes = (
        node("x", [0.0], [[]], ()),
        node("a", [1.0], [[1]], (0,)),  # has x turned into Q for 3
        node("b", [4.0, 2.0], [[0], [1]], (0,)),  # Q is there already: 2, not 2 + 3 against 4
    )
    problem = Problem(("P", "Q"), nodes, (np.array([[0.0, 3.0], [3.0, 0.0]]),) * 3)
    assert solve(problem, "greedy").choice == (0, 0, 1)


@pytest.mark.parametrize(
    ("solver", "cost"),
    [("single:chw", 143642006.287), ("single:hwc", 103664861.019), ("sum2d", 1122725468.477)],
)
def test_the_authors_tables(solver: str, cost: float) -> None:
    assert solve(alexnet(), solver).cost_s == pytest.approx(cost, abs=1e-3)


def test_baselines_of_a_larger_network() -> None:
    problem = blocks(200, 4, 10, 1, scale=3.0)
    best = solve(problem).cost_s
    for solver in BASELINES:
        assert solve(problem, solver).cost_s > best
