"""All candidates of a network as one flat list, and the assignment problem for any vector of their costs.

The structure of the problem (layouts, who reads what) is built once; every question of the search then is "what is the
best plan if these candidates cost this much?" and takes milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from te_kernels.task import TransformTask
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.demands import Demands, restrict
from tvm_globalsel.graph import Network, Operator
from tvm_globalsel.measure import Request
from tvm_globalsel.problem import Problem, Solution, transforms_of_plan
from tvm_globalsel.selection import Costs, Measured, build_problem
from tvm_globalsel.solve import pbqp
from tvm_globalsel.solve.regret import regrets

_FREE = -1


@dataclass(frozen=True)
class Plan:
    """The best plan for some costs: its seconds and the candidates (positions in ``Space.requests``) that it uses."""

    cost_s: float
    used: frozenset[int]


class Space:
    """The candidates of a network: ``requests`` in a fixed order, those of operators before those of transforms."""

    def __init__(
        self, network: Network, choices: dict[str, tuple[Measured, ...]], moves: dict[str, Candidates], demands: Demands
    ) -> None:
        """``choices`` as :func:`costs_from_log` finds them: one without record whose time is 0 needs no kernel."""
        self.requests: list[Request] = []
        self._first = len(network.inputs)
        tasks = {task.key: task for op in network.operators for task in op.tasks}
        self._of_task = {
            key: np.array([
                _FREE if m.record is None and m.cost_s == 0 else self._add(Request(tasks[key], m.variant))
                for m in every
            ], dtype=np.int64)
            for key, every in choices.items()
        }  # fmt: skip
        self._of_move = {
            key: np.array([self._add(Request(candidates.task, v)) for v in candidates.variants], dtype=np.int64)
            for key, candidates in moves.items()
            if candidates.variants
        }
        every = {key: tuple(dataclasses.replace(m, cost_s=1.0) for m in found) for key, found in choices.items()}
        best = {key: Measured(moves[key].variants[0], 1.0, None) for key in self._of_move}
        costs = Costs(every, best)
        self._template = restrict(network, costs, build_problem(network, costs), demands)
        # in the order of Costs.of
        self._of_op = [self._choices_of(op, len(costs.of(op))) for op in network.operators]
        self._uses = Counter([*(task.key for op in network.operators for task in op.tasks), *self._of_move])
        shapes = network.shapes
        values = [*(v.name for v in network.inputs), *(op.name for op in network.operators)]
        self._shapes = [shapes[name] for name in (*values, *network.outputs)]
        self._arcs = {shape: self._moves_of(shape) for shape in dict.fromkeys(self._shapes)}

    def _add(self, request: Request) -> int:
        self.requests.append(request)
        return len(self.requests) - 1

    def _choices_of(self, op: Operator, count: int) -> np.ndarray:
        """``(choices,)`` the candidate that each choice of an operator runs; being deferred runs none."""
        own = [self._of_task[task.key] for task in op.tasks]
        return np.concatenate([*own, np.full(count - sum(map(len, own)), _FREE)])

    def _moves_of(self, shape: tuple[int, ...]) -> dict[tuple[int, int], np.ndarray]:
        """The candidates for each pair of layouts of a tensor of this shape."""
        names = self._template.layouts
        found = {}
        for i, source in enumerate(names):
            for j, destination in enumerate(names):
                kernels = self._of_move.get(TransformTask(shape, source, destination).key)
                if kernels is not None:
                    found[i, j] = kernels
        return found

    def __len__(self) -> int:
        return len(self.requests)

    def problem(self, costs_s: np.ndarray) -> Problem:
        """The assignment problem if candidate ``i`` costs ``costs_s[i]`` seconds (infinite: cannot be used)."""
        priced = np.append(costs_s, 0.0)  # at _FREE
        tables = {}
        for shape, arcs in self._arcs.items():
            table = np.full((len(self._template.layouts),) * 2, np.inf)
            for arc, kernels in arcs.items():
                table[arc] = priced[kernels].min()
            tables[shape] = table
        nodes, transforms = [], []
        for index, (node, raw) in enumerate(zip(self._template.nodes, self._template.transform_s, strict=True)):
            number = index - self._first
            if 0 <= number < len(self._of_op):
                own = priced[self._of_op[number]]
                node = dataclasses.replace(node, costs_s=np.where(np.isfinite(node.costs_s), own, np.inf))
            nodes.append(node)
            transforms.append(np.where(raw == 0, 0.0, tables[self._shapes[index]]))
        return Problem(self._template.layouts, tuple(nodes), tuple(transforms))

    def best(self, costs_s: np.ndarray) -> Plan:
        """The exact optimum for these costs. Raises Infeasible when there is no plan."""
        problem = self.problem(costs_s)
        solution = pbqp.solve(problem)
        return Plan(solution.cost_s, frozenset(self._used(problem, solution, costs_s)))

    def _used(self, problem: Problem, solution: Solution, costs_s: np.ndarray) -> Iterable[int]:
        for number, choices in enumerate(self._of_op):
            kernel = int(choices[solution.choice[self._first + number]])
            if kernel != _FREE:
                yield kernel
        for index, arcs in enumerate(transforms_of_plan(problem, solution.choice)):
            for arc in arcs:
                kernels = self._arcs[self._shapes[index]].get(arc)
                if kernels is not None and problem.transform_s[index][arc] > 0:
                    yield int(kernels[costs_s[kernels].argmin()])

    def regrets(self, costs_s: np.ndarray) -> np.ndarray:
        """``(candidates,)`` seconds that the best plan with each operator's candidate costs more than the best of all.

        Infinite for transforms, of which the exact pricing knows nothing, and for what no plan can use.
        """
        problem = self.problem(costs_s)
        result = np.full(len(self) + 1, np.inf)
        for number, regret in enumerate(regrets(problem, pbqp.solve(problem))[self._first :]):
            if number < len(self._of_op):
                np.minimum.at(result, self._of_op[number], regret)
        return result[:-1]

    def rivals(self, candidate: int) -> np.ndarray:
        """All candidates of the same task, itself included."""
        key = self.requests[candidate].task.key
        kernels = self._of_move[key] if key in self._of_move else self._of_task[key]
        return kernels[kernels != _FREE]

    def uses(self, candidate: int) -> int:
        """How many operators or pairs have its task; 1 for a transform."""
        return self._uses[self.requests[candidate].task.key]
