"""The definition of cost against brute force, and what a problem refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solve.networks import KINDS, small
from tvm_globalsel.arborescence import cheapest_arborescence, shortest_paths, steiner_costs
from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, plan_cost, relative_gap, transforms_of_plan

COMMON = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def node(name: str, inputs: tuple[int, ...] = (), layout: int = 0, cost: float = 0.0) -> NodeChoices:
    """A node that reads and writes one layout only."""
    reads = np.full((1, len(inputs)), layout)
    return NodeChoices(name, np.array([cost]), np.array([layout]), reads, inputs, (name,))


def table(size: int, **seconds: float) -> np.ndarray:
    """Transforms of the given cost, ``a01=2.0`` for layout 0 to 1; all others impossible."""
    result = np.where(np.eye(size) > 0, 0.0, np.inf)
    for arc, cost in seconds.items():
        result[int(arc[1]), int(arc[2])] = cost
    return result


def by_brute_force(costs: np.ndarray, root: int, terminals: set[int]) -> float:
    """The cheapest set of arcs by which every terminal is reached, of all sets of arcs."""
    arcs = [arc for arc in itertools.permutations(range(len(costs)), 2) if np.isfinite(costs[arc])]
    best = np.inf
    for chosen in itertools.product((False, True), repeat=len(arcs)):
        made = [arc for arc, taken in zip(arcs, chosen, strict=True) if taken]
        reached, before = {root}, 0
        while len(reached) != before:
            before = len(reached)
            reached |= {b for a, b in made if a in reached}
        if terminals <= reached:
            best = min(best, sum(costs[arc] for arc in made))
    return best


@COMMON
@given(st.integers(0, 2**32 - 1))
def test_arborescence_is_the_cheapest_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    layouts = int(random.integers(1, 4)) if random.random() < 0.9 else 4
    costs = random.integers(0, 6, (layouts, layouts)).astype(float)
    costs[random.random(costs.shape) < random.choice([0.0, 0.4])] = np.inf
    np.fill_diagonal(costs, 0.0)
    root, terminals = int(random.integers(layouts)), set(random.integers(0, layouts, 3).tolist())
    best = by_brute_force(costs, root, terminals)
    every = tuple(range(layouts))
    members = sum(1 << terminal for terminal in terminals)
    assert steiner_costs(shortest_paths(costs)[None], every, layouts)[0, root, members] == best
    arcs = cheapest_arborescence(costs, root, terminals)
    if arcs is None:
        assert best == np.inf
        return
    assert sum(costs[arc] for arc in arcs) == best
    made = {root}
    for source, destination in arcs:
        assert source in made and destination not in made
        made.add(destination)
    assert terminals <= made


@COMMON
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_transforms_of_plan_serve_every_consumer_and_cost_what_the_plan_says(kind: str, seed: int) -> None:
    problem = small(kind, seed)
    random = np.random.default_rng(seed)
    choice = [int(random.integers(one.size)) for one in problem.nodes]
    total = plan_cost(problem, choice)
    if total == np.inf:
        forbidden = any(np.isinf(n.costs_s[c]) for n, c in zip(problem.nodes, choice, strict=True))
        if not forbidden:
            with pytest.raises(Infeasible, match="no chain of transforms"):
                transforms_of_plan(problem, choice)
        return
    made = transforms_of_plan(problem, choice)
    for index, one in enumerate(problem.nodes):
        total -= one.costs_s[choice[index]]
        available = {int(one.out_layout[choice[index]])}
        for source, destination in made[index]:
            assert source in available and destination not in available
            available.add(destination)
            total -= problem.transform_s[index][source, destination]
        for reader, slot in problem.consumers[index]:
            assert int(problem.nodes[reader].in_layouts[choice[reader], slot]) in available
    assert abs(total) < 1e-9


def test_a_transform_shared_by_consumers_is_paid_once() -> None:
    nodes = (node("x"), node("a", (0,), 1), node("b", (0,), 1), node("c", (0,), 0))
    problem = Problem(("P", "Q"), nodes, (table(2, a01=5.0),) * 4)
    assert plan_cost(problem, (0, 0, 0, 0)) == 5.0
    assert transforms_of_plan(problem, (0, 0, 0, 0))[0] == ((0, 1),)


def test_a_chain_that_is_cheaper_is_taken_and_shared() -> None:
    nodes = (node("x"), node("a", (0,), 2), node("b", (0,), 1))
    problem = Problem(("P", "Q", "R"), nodes, (table(3, a02=5.0, a01=1.0, a12=2.0),) * 3)
    assert transforms_of_plan(problem, (0, 0, 0))[0] == ((0, 1), (1, 2))
    assert plan_cost(problem, (0, 0, 0)) == 3.0


def test_layouts_of_the_same_bytes_cost_nothing() -> None:
    problem = Problem(("P", "Q"), (node("x"), node("a", (0,), 1)), (table(2, a01=0.0),) * 2)
    assert plan_cost(problem, (0, 0)) == 0.0
    assert transforms_of_plan(problem, (0, 0)) == (((0, 1),), ())


def test_an_unreachable_layout_makes_a_plan_infinite() -> None:
    problem = Problem(("P", "Q"), (node("x"), node("a", (0,), 1)), (table(2),) * 2)
    assert plan_cost(problem, (0, 0)) == np.inf
    with pytest.raises(Infeasible, match=r"output of 'x' from P into what a demand"):
        transforms_of_plan(problem, (0, 0))


def test_a_forbidden_choice_makes_a_plan_infinite() -> None:
    problem = Problem(("P",), (node("x", cost=np.inf),), (table(1),))
    assert plan_cost(problem, (0,)) == np.inf


@pytest.mark.parametrize("choice", [(0,), (0, 1), (0, -1), (0, 0, 0)])
def test_a_choice_that_is_none_is_refused(choice: tuple[int, ...]) -> None:
    problem = Problem(("P",), (node("x"), node("a", (0,))), (table(1),) * 2)
    with pytest.raises(ValueError):
        plan_cost(problem, choice)


@pytest.mark.parametrize("cost", [-1.0, np.nan])
def test_a_node_refuses_impossible_costs(cost: float) -> None:
    with pytest.raises(ValueError, match="'bad' has a cost"):
        node("bad", cost=cost)


def test_a_node_refuses_shapes_that_do_not_agree() -> None:
    with pytest.raises(ValueError, match="2 labels"):
        NodeChoices("bad", np.zeros(1), np.zeros(1, int), np.zeros((1, 0), int), (), ("a", "b"))
    with pytest.raises(ValueError, match="1 inputs"):
        NodeChoices("bad", np.zeros(1), np.zeros(1, int), np.zeros((1, 2), int), (0,), ("a",))
    with pytest.raises(ValueError, match="families"):
        NodeChoices("bad", np.zeros(1), np.zeros(1, int), np.zeros((1, 0), int), (), ("a",), ("f", "g"))
    with pytest.raises(ValueError, match="0 labels"):
        NodeChoices("bad", np.zeros(0), np.zeros(0, int), np.zeros((0, 0), int), (), ())


def test_a_problem_refuses_what_is_not_a_network() -> None:
    tables = (table(2),) * 2
    with pytest.raises(ValueError, match="topological"):
        Problem(("P", "Q"), (node("a", (1,)), node("x")), tables)
    with pytest.raises(ValueError, match="two nodes are called 'x'"):
        Problem(("P", "Q"), (node("x"), node("x")), tables)
    with pytest.raises(ValueError, match="distinct"):
        Problem(("P", "P"), (node("x"), node("y")), tables)
    with pytest.raises(ValueError, match="names a layout"):
        Problem(("P", "Q"), (node("x"), node("y", (0,), layout=2)), tables)
    with pytest.raises(ValueError, match="as many transform tables"):
        Problem(("P", "Q"), (node("x"),), tables)
    with pytest.raises(ValueError, match="shape"):
        Problem(("P", "Q"), (node("x"), node("y")), (table(2), table(3)))


@pytest.mark.parametrize(("at", "seconds"), [((0, 1), -1.0), ((0, 1), np.nan), ((1, 1), 1.0)])
def test_a_problem_refuses_impossible_transforms(at: tuple[int, int], seconds: float) -> None:
    bad = table(2)
    bad[at] = seconds
    with pytest.raises(ValueError, match="transforms of 'x'"):
        Problem(("P", "Q"), (node("x"),), (bad,))


def test_arrays_of_a_problem_cannot_be_changed() -> None:
    costs = np.zeros(1)
    one = NodeChoices("x", costs, np.zeros(1, int), np.zeros((1, 0), int), (), ("x",))
    costs[0] = 7.0
    assert one.costs_s[0] == 0.0
    with pytest.raises(ValueError):
        one.costs_s[0] = 1.0


def test_gap() -> None:
    assert relative_gap(2.0, 1.0) == 0.5
    assert relative_gap(0.0, 0.0) == 0.0
    assert relative_gap(2.0, -np.inf) == np.inf
