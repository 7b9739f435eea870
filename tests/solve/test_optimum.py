"""Every exact solver has the optimum that enumeration finds, on networks of every shape."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solve.large import blocks, densenet, random_wired
from tests.solve.networks import KINDS, small
from tests.solve.trinnity import alexnet
from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, Solution, plan_cost
from tvm_globalsel.solve import exhaustive, milp, pbqp, solve
from tvm_globalsel.solve.branch import Search, minimise
from tvm_globalsel.solve.graph import Factor, Graph

SEEDS = st.integers(0, 2**32 - 1)


def many(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def check(problem: Problem, solution: Solution) -> None:
    """What every proven solution promises."""
    assert solution.cost_s == plan_cost(problem, solution.choice)
    assert solution.optimal and solution.gap <= 1e-9
    assert solution.lower_bound_s <= solution.cost_s


def optimum(problem: Problem) -> Solution | None:
    try:
        return exhaustive.solve(problem)
    except Infeasible:
        return None


# 6 kinds x 400: the plain solver, and one that may not eliminate and so must take apart, bound and branch
@pytest.mark.parametrize("kind", KINDS)
@many(400)
@given(SEEDS)
def test_pbqp_has_the_optimum(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    best = optimum(problem)
    for most_entries in (1 << 20, 0):
        if best is None:
            with pytest.raises(Infeasible, match=r"node 'n[0-9]+' cannot be satisfied"):
                pbqp.solve(problem, most_entries)
        else:
            found = pbqp.solve(problem, most_entries)
            check(problem, found)
            assert found.cost_s == pytest.approx(best.cost_s, rel=1e-12, abs=0)


@pytest.mark.parametrize("kind", KINDS)
@many(340)
@given(SEEDS)
def test_milp_has_the_optimum(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    best = optimum(problem)
    if best is None:
        with pytest.raises(Infeasible):
            milp.solve(problem)
    else:
        found = milp.solve(problem)
        check(problem, found)
        assert found.cost_s == pytest.approx(best.cost_s, rel=1e-9, abs=0)


@many(200)
@given(st.sampled_from(KINDS), SEEDS)
def test_enumeration_prices_plans_as_plan_cost_does(kind: str, seed: int) -> None:
    problem = small(kind, seed, most_plans=200)
    costs = exhaustive.all_costs(problem)
    for choice in itertools.islice(itertools.product(*(range(node.size) for node in problem.nodes)), 0, None, 7):
        assert costs[choice] == pytest.approx(plan_cost(problem, choice), rel=1e-12)


def add_clique(graph: Graph, random: np.random.Generator, nodes: list[int], density: float) -> None:
    """Add costs to any of these nodes and pairs of them, with no layouts behind them."""
    whole, forbidden = random.random() < 0.5, float(random.choice([0.0, 0.03, 0.2]))

    def amounts(shape: tuple[int, ...]) -> np.ndarray:
        drawn = random.integers(0, 5, shape).astype(float) if whole else random.gamma(1.0, 1.0, shape)
        return np.where(random.random(shape) < forbidden, np.inf, drawn)

    for node in nodes:
        if node not in graph.costs:
            graph.add_node(node, amounts((int(random.integers(1, 4)),)))
    for first, second in itertools.combinations(nodes, 2):
        if random.random() < density:
            graph.add_edge(first, second, amounts((graph.costs[first].size, graph.costs[second].size)))


def cheapest_by_enumeration(graph: Graph) -> float:
    scope = tuple(graph.costs)
    total = np.zeros([graph.costs[node].size for node in scope])
    for node in scope:
        total += Factor((node,), graph.costs[node]).along(scope)
        for other, matrix in graph.edges[node].items():
            if node < other:
                total += Factor((node, other), matrix).along(scope)
    return float(total.min())


@many(500)
@given(SEEDS)
def test_search_has_the_optimum_of_any_graph(seed: int) -> None:
    random = np.random.default_rng(seed)
    graph = Graph()
    if random.random() < 0.5:
        add_clique(graph, random, list(range(random.integers(1, 9))), float(random.choice([0.4, 0.7, 1.0])))
    else:  # cliques that share one node or none: parts to take apart
        size = int(random.integers(3, 6))
        for start in (0, size - int(random.random() < 0.8)):
            add_clique(graph, random, list(range(start, start + size)), 1.0)
    best = cheapest_by_enumeration(graph)
    for most_entries in (1 << 20, 30, 0):
        found = minimise(graph.copy(), np.inf, Search(Counter(), most_entries))
        if found is None:
            assert best == np.inf
        else:
            assert found.cost == pytest.approx(best, rel=1e-12, abs=1e-15)
            assert graph.cost_of(found.assignment) == pytest.approx(best, rel=1e-12, abs=1e-15)


def test_search_uses_all_its_devices() -> None:
    counts: Counter[str] = Counter()
    for seed in range(10):
        random, graph = np.random.default_rng(seed), Graph()
        for start in (0, 8, 16):
            add_clique(graph, random, list(range(start, start + 9)), 1.0)
        minimise(graph.copy(), np.inf, Search(counts, 0))
        minimise(graph, np.inf, Search(counts, 1000))
    assert all(counts[name] for name in ("R0", "RI", "RII", "eliminated", "parts", "branch nodes")), counts


@pytest.mark.parametrize(
    "problem",
    [densenet((3, 4), 3, 6, 1), blocks(60, 4, 8, 2, scale=3.0), random_wired(1, 10, 4, 6, 3, scale=2.0)],
    ids=["densenet", "blocks", "random_wired"],
)
def test_pbqp_and_milp_agree_on_networks_too_large_to_enumerate(problem: Problem) -> None:
    exact, linear = pbqp.solve(problem), milp.solve(problem)
    check(problem, exact)
    check(problem, linear)
    assert linear.cost_s == pytest.approx(exact.cost_s, rel=1e-9)
    with pytest.raises(ValueError, match="enumeration stops"):
        exhaustive.solve(problem)


def test_dense_blocks_need_no_branching() -> None:
    found = pbqp.solve(densenet((6, 12, 24, 16), 5, 15, 1))
    assert found.optimal and found.reductions["branch nodes"] == found.reductions["eliminated"] == 0
    assert found.seconds < 2.0


def test_irregular_networks_are_proven_optimal_too() -> None:
    problem = random_wired(2, 20, 5, 10, 1)
    found = pbqp.solve(problem)
    check(problem, found)
    assert found.reductions["parts"] and found.seconds < 10.0


@pytest.mark.parametrize("solver", ["pbqp", "milp"])
def test_the_authors_tables(solver: str) -> None:
    assert solve(alexnet(), solver).cost_s == pytest.approx(103294806.079, abs=1e-3)


def small_limits() -> tuple[Problem, milp.Limit]:
    problem = alexnet()
    rates = [np.arange(node.size, dtype=float) for node in problem.nodes]
    return problem, milp.Limit("numbers", tuple(rates), 60.0)


def test_milp_keeps_a_limit() -> None:
    problem, limit = small_limits()
    free, bound = milp.solve(problem), milp.solve(problem, [limit])
    used = [sum(w[c] for w, c in zip(limit.weights, s.choice, strict=True)) for s in (free, bound)]
    assert used[0] > limit.most >= used[1]
    assert bound.cost_s > free.cost_s and bound.optimal
    # a choice that is not the cheapest for its layouts may be what the limit needs
    cheapest = [min(range(n.size), key=lambda c, n=n: n.costs_s[c]) for n in problem.nodes]
    assert list(bound.choice) != cheapest


def test_milp_names_the_limit_that_no_plan_keeps() -> None:
    problem, limit = small_limits()
    with pytest.raises(Infeasible, match="numbers"):
        milp.solve(problem, [dataclasses.replace(limit, most=-1.0)])


def two(in_layout: int, cost: float, seconds: float) -> Problem:
    first = NodeChoices("x", np.zeros(1), np.zeros(1, int), np.zeros((1, 0), int), (), ("x",))
    second = NodeChoices("conv", np.array([cost]), np.zeros(1, int), np.array([[in_layout]]), (0,), ("a",))
    third = NodeChoices("y", np.zeros(1), np.zeros(1, int), np.array([[0]]), (1,), ("y",))
    table = np.array([[0.0, seconds], [seconds, 0.0]])
    return Problem(("P", "Q"), (first, second, third), (table,) * 3)


@pytest.mark.parametrize("solver", ["pbqp", "milp", "local", "greedy", "single:P", "sum2d"])
def test_an_infeasible_problem_names_the_node(solver: str) -> None:
    with pytest.raises(Infeasible, match="'conv' cannot be satisfied: each of its 1 choices is forbidden"):
        solve(two(0, np.inf, 1.0), solver)
    with pytest.raises(Infeasible, match="'conv' cannot be satisfied: its input 0 comes from 'x', which is made in P"):
        solve(two(1, 1.0, np.inf), solver)


@pytest.mark.parametrize("solver", ["pbqp", "milp", "exhaustive"])
def test_a_network_that_costs_nothing(solver: str) -> None:
    found = solve(two(0, 0.0, 1.0), solver)
    assert (found.cost_s, found.gap, found.optimal, found.solver) == (0.0, 0.0, True, solver)


@pytest.mark.parametrize("solver", ["", "pbpq", "single", "single:", "pbqp:NCHW", "single:Z", "sum2d:x"])
def test_an_unknown_solver_is_refused(solver: str) -> None:
    with pytest.raises(ValueError, match="there is no"):
        solve(two(0, 1.0, 1.0), solver)
