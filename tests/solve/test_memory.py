"""Memory and error limits: the peak of a plan by simulation, optima under limits by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.solve.networks import KINDS, small
from tests.solve.test_optimum import SEEDS, check, many
from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, plan_cost, transforms_of_plan
from tvm_globalsel.solve import milp
from tvm_globalsel.solve.memory import Memory, peak


def random_memory(problem: Problem, seed: int) -> Memory:
    random = np.random.default_rng(seed)
    tensors, workspace, weights = [], [], []
    for node in problem.nodes:
        size = int(random.integers(1, 9)) * 100
        tensors.append(size + random.integers(0, 50, len(problem.layouts)))
        workspace.append(random.integers(0, 300, node.size) * (random.random(node.size) < 0.5))
        weights.append(random.integers(0, 200, node.size) * int(bool(node.inputs)))
    last = len(problem.nodes) - 1
    held = [index if problem.consumers[index] else last for index in range(len(problem.nodes))]
    for index, node in enumerate(problem.nodes):  # some nodes are views
        if len(node.inputs) == 1 and problem.consumers[index] and random.random() < 0.15:
            tensors[index] = np.zeros(len(problem.layouts))
            held[index] = max(held[reader] for reader, _ in problem.consumers[index])
    return Memory(tuple(tensors), tuple(workspace), tuple(weights), tuple(held))


def simulated(problem: Problem, memory: Memory, choice: tuple[int, ...]) -> int:
    """The peak by keeping a set of buffers, moment by moment."""
    made = transforms_of_plan(problem, choice)
    free = []
    for table in problem.transform_s:
        ways = np.linalg.matrix_power((table == 0).astype(float), len(table)) > 0  # by way of any others
        free.append(ways & ways.T)

    def buffer(node: int, layout: int) -> tuple[int, int]:
        return node, int(np.flatnonzero(free[node][layout])[0])

    def size(one: tuple[int, int]) -> int:
        return max(int(memory.tensor_bytes[one[0]][layout]) for layout in np.flatnonzero(free[one[0]][one[1]]))

    reads = [
        (index, memory.held_until[index], buffer(producer, int(layout)))
        for index, node in enumerate(problem.nodes)
        for producer, layout in zip(node.inputs, node.in_layouts[choice[index]], strict=True)
    ]
    weights = sum(int(w[c]) for w, c in zip(memory.weight_bytes, choice, strict=True))
    most = 0
    for index, node in enumerate(problem.nodes):
        kept = {one for _, until, one in reads if one[0] < index <= until}
        out = buffer(index, int(node.out_layout[choice[index]]))
        running = sum(map(size, kept | {out})) + int(memory.workspace_bytes[index][choice[index]])
        kept = {one for _, until, one in reads if one[0] < index < until}
        if problem.consumers[index]:
            kept |= {out, *(buffer(index, to) for _, to in made[index])}
        most = max(most, running, sum(map(size, kept)))
    return most + weights


def plans(problem: Problem) -> list[tuple[int, ...]]:
    every = itertools.product(*(np.flatnonzero(np.isfinite(n.costs_s)).tolist() for n in problem.nodes))
    return [plan for plan in every if plan_cost(problem, plan) < np.inf]


@many(120)
@given(st.sampled_from(KINDS), SEEDS)
def test_peak_is_what_a_simulation_finds(kind: str, seed: int) -> None:
    problem = small(kind, seed, most_plans=60)
    memory = random_memory(problem, seed)
    for plan in plans(problem)[::5]:
        found = peak(problem, memory, plan)
        assert found.total_bytes == simulated(problem, memory, plan)
        assert found.total_bytes == found.activation_bytes + found.workspace_bytes + found.weight_bytes


@many(150)
@given(st.sampled_from(KINDS), SEEDS, st.sampled_from([0.0, 0.2, 0.6]), st.booleans())
def test_optimum_within_memory_and_error_is_that_of_enumeration(
    kind: str, seed: int, tightness: float, with_error: bool
) -> None:
    problem = small(kind, seed, most_plans=150)
    every = plans(problem)
    if not every:
        return
    memory = random_memory(problem, seed)
    random = np.random.default_rng(seed + 1)
    errors = tuple(random.random(node.size) * 1e-6 for node in problem.nodes)
    used = {plan: sum(float(e[c]) for e, c in zip(errors, plan, strict=True)) for plan in every}
    peaks = {plan: simulated(problem, memory, plan) for plan in every}

    def between(values: list[float]) -> float:
        return min(values) + tightness * (max(values) - min(values))

    most_bytes = int(between(list(peaks.values())))
    limit = milp.MemoryLimit("memory", memory, most_bytes)
    error = milp.Limit("error", errors, between([used[p] for p in every if peaks[p] <= most_bytes]))
    limits = [error] if with_error else []
    allowed = [p for p in every if peaks[p] <= most_bytes and (not with_error or used[p] <= error.most * (1 + 1e-12))]
    found = milp.solve(problem, limits, memory=limit)
    check(problem, found)
    assert found.choice in peaks and peaks[found.choice] <= most_bytes
    assert found.cost_s == pytest.approx(min(plan_cost(problem, p) for p in allowed), rel=1e-9, abs=1e-12)
    least = milp.least(problem, limit, limits)
    assert least.proven
    assert least.value == min(peaks[p] for p in every if not with_error or used[p] <= error.most * (1 + 1e-12))
    least = milp.least(problem, error, memory=limit)
    assert least.value == pytest.approx(min(used[p] for p in every if peaks[p] <= most_bytes), rel=1e-6)
    too_little = milp.MemoryLimit("memory", memory, min(peaks.values()) - 1)
    with pytest.raises(Infeasible, match="memory"):
        milp.solve(problem, memory=too_little)


def test_an_intermediate_layout_of_a_chain_counts() -> None:
    """The rows know produced and demanded layouts only; what lies between refutes the plan afterwards."""
    reads, writes = np.array([[2], [0]]), np.array([0, 0])
    nodes = (
        NodeChoices("x", np.zeros(1), np.zeros(1, int), np.zeros((1, 0), int), (), ("x",)),
        NodeChoices("conv", np.array([1.0, 50.0]), writes, reads, (0,), ("fast", "slow")),
        NodeChoices("y", np.zeros(1), np.zeros(1, int), np.zeros((1, 1), int), (1,), ("y",)),
    )
    table = np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 1.0], [9.0, 1.0, 0.0]])
    problem = Problem(("P", "Q", "R"), nodes, (table,) * 3)
    sizes = np.array([100, 1000, 100])
    memory = Memory((sizes, np.zeros(3), np.zeros(3)), (np.zeros(1), np.zeros(2), np.zeros(1)),
                    (np.zeros(1), np.zeros(2), np.zeros(1)), (0, 1, 2))  # fmt: skip
    assert transforms_of_plan(problem, (0, 0, 0))[0] == ((0, 1), (1, 2))
    assert peak(problem, memory, (0, 0, 0)).total_bytes == 1200
    assert milp.solve(problem, memory=milp.MemoryLimit("memory", memory, 1200)).choice == (0, 0, 0)
    found = milp.solve(problem, memory=milp.MemoryLimit("memory", memory, 1199))
    assert found.choice == (0, 1, 0) and found.optimal
    assert milp.least(problem, milp.MemoryLimit("memory", memory, 0)).value == 100
