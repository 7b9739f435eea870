"""The assignment problem in numpy: what may be chosen, what a plan costs, and what a solver answers.

One operator is a node with choices; a choice fixes a cost, the layout of each input and the layout of the output. The
only definition of what a plan costs is :func:`plan_cost`; every solver is checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tvm_globalsel.arborescence import Arc, cheapest_arborescence


class Infeasible(ValueError):
    """No plan has a finite cost; the message names a node that cannot be satisfied where that is possible."""


@dataclass(frozen=True, eq=False)
class NodeChoices:
    """One operator, graph input or graph output and everything it may run as.

    ``costs_s`` is ``(choices,)`` seconds, ``np.inf`` for a forbidden choice; ``out_layout`` ``(choices,)`` and
    ``in_layouts`` ``(choices, inputs)`` index ``Problem.layouts``; ``inputs`` are the indices of the producing nodes,
    one for each data input (a producer may repeat). ``labels`` and ``families`` have one entry a choice; baselines such
    as ``sum2d`` look for their choices by family.
    """

    name: str
    costs_s: np.ndarray
    out_layout: np.ndarray
    in_layouts: np.ndarray
    inputs: tuple[int, ...]
    labels: tuple[str, ...]
    families: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        costs_s = np.asarray(self.costs_s, dtype=np.float64)
        choices = len(self.labels)
        if choices == 0 or costs_s.shape != (choices,):
            raise ValueError(f"node {self.name!r} has {choices} labels, but costs of shape {costs_s.shape}")
        if np.isnan(costs_s).any() or (costs_s < 0).any():
            raise ValueError(f"node {self.name!r} has a cost that is negative or not a number: {costs_s}")
        if self.families and len(self.families) != choices:
            raise ValueError(f"node {self.name!r} has {choices} choices, but {len(self.families)} families")
        in_layouts = np.asarray(self.in_layouts, dtype=np.int64)
        if not self.inputs and in_layouts.size == 0:
            in_layouts = in_layouts.reshape(choices, 0)
        out_layout = np.asarray(self.out_layout, dtype=np.int64)
        if out_layout.shape != (choices,) or in_layouts.shape != (choices, len(self.inputs)):
            raise ValueError(
                f"node {self.name!r} has {choices} choices and {len(self.inputs)} inputs, but output layouts of shape "
                f"{out_layout.shape} and input layouts of shape {in_layouts.shape}"
            )
        for name, array in (("costs_s", costs_s), ("out_layout", out_layout), ("in_layouts", in_layouts)):
            frozen = array.copy()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)
        if not self.families:
            object.__setattr__(self, "families", ("",) * choices)

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Problem:
    """A network of nodes in topological order, and what it takes to change the layout of each produced tensor.

    ``transform_s[n]`` is ``(layouts, layouts)`` seconds to turn node ``n``'s OUTPUT tensor from the row's layout to the
    column's: 0 on the diagonal and wherever both are the same bytes, ``np.inf`` where impossible. It is raw: chains are
    found here. Graph inputs and outputs are nodes too, with the caller's layout as their only choice.
    """

    layouts: tuple[str, ...]
    nodes: tuple[NodeChoices, ...]
    transform_s: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        count = len(self.layouts)
        if count == 0 or len(set(self.layouts)) != count:
            raise ValueError(f"layouts must be distinct and at least one: {self.layouts}")
        if len(self.transform_s) != len(self.nodes):
            raise ValueError(f"{len(self.nodes)} nodes need as many transform tables, not {len(self.transform_s)}")
        names: set[str] = set()
        tables = []
        for index, (node, raw) in enumerate(zip(self.nodes, self.transform_s, strict=True)):
            if node.name in names:
                raise ValueError(f"two nodes are called {node.name!r}")
            names.add(node.name)
            if any(not 0 <= producer < index for producer in node.inputs):
                raise ValueError(f"node {node.name!r} (number {index}) reads {node.inputs}: not in topological order")
            for layouts in (node.out_layout, node.in_layouts):
                if layouts.size and not (layouts.min() >= 0 and layouts.max() < count):
                    raise ValueError(f"node {node.name!r} names a layout that is not among the {count} of the problem")
            table = np.array(raw, dtype=np.float64)
            if table.shape != (count, count):
                raise ValueError(f"transforms of {node.name!r} have shape {table.shape}, not {(count, count)}")
            if np.isnan(table).any() or (table < 0).any() or np.diagonal(table).any():
                raise ValueError(f"transforms of {node.name!r} must be numbers >= 0 with a diagonal of 0: {table}")
            table.flags.writeable = False
            tables.append(table)
        object.__setattr__(self, "transform_s", tuple(tables))

    @cached_property
    def consumers(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each node, who reads its output: pairs of a node and the number of its input."""
        readers: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for slot, producer in enumerate(node.inputs):
                readers[producer].append((index, slot))
        return tuple(tuple(pairs) for pairs in readers)


@dataclass(frozen=True)
class Solution:
    """What a solver answers: one choice a node, its cost by :func:`plan_cost`, and how much of that is proven.

    No plan costs less than ``lower_bound_s`` (``-inf`` when nothing was proven); ``gap`` is the relative distance to
    it; ``optimal`` says that the gap is closed but for rounding. ``reductions`` counts what the solver did, by name.
    """

    choice: tuple[int, ...]
    cost_s: float
    lower_bound_s: float
    gap: float
    optimal: bool
    solver: str
    seconds: float
    reductions: Mapping[str, int] = field(default_factory=dict)


def relative_gap(cost_s: float, lower_bound_s: float) -> float:
    """How far ``cost_s`` may lie above the optimum, relative to ``cost_s``."""
    if cost_s <= lower_bound_s:
        return 0.0
    return (cost_s - lower_bound_s) / cost_s


def plan_cost(problem: Problem, choice: Sequence[int]) -> float:
    """Seconds of a whole plan: every node's cost and every transform of :func:`transforms_of_plan`, each paid once.

    Infinite when a forbidden choice is used or a demanded layout cannot be made. This is the only definition of cost.
    """
    arcs = _arcs_of_plan(problem, choice)
    total = 0.0
    for node, table, chosen, made in zip(problem.nodes, problem.transform_s, choice, arcs, strict=True):
        if made is None:
            return np.inf
        total += float(node.costs_s[chosen]) + sum(float(table[arc]) for arc in made)
    return total


def transforms_of_plan(problem: Problem, choice: Sequence[int]) -> tuple[tuple[Arc, ...], ...]:
    """For each node, the transforms of its output in order of execution: pairs of source and destination layout.

    They are the cheapest arborescence from the produced layout to every layout a consumer demands: a transform shared
    by several consumers appears once, and chains appear hop by hop. Raises Infeasible when there is none.
    """
    made: list[tuple[Arc, ...]] = []
    for index, arcs in enumerate(_arcs_of_plan(problem, choice)):
        if arcs is None:
            produced = problem.layouts[problem.nodes[index].out_layout[choice[index]]]
            readers = sorted({problem.nodes[reader].name for reader, _ in problem.consumers[index]})
            raise Infeasible(
                f"no chain of transforms turns the output of {problem.nodes[index].name!r} from {produced} into what "
                f"{', '.join(readers)} demand in this plan"
            )
        made.append(arcs)
    return tuple(made)


def _arcs_of_plan(problem: Problem, choice: Sequence[int]) -> list[tuple[Arc, ...] | None]:
    if len(choice) != len(problem.nodes):
        raise ValueError(f"a plan of {len(problem.nodes)} nodes needs as many choices, not {len(choice)}")
    demanded: list[set[int]] = [set() for _ in problem.nodes]
    for node, chosen in zip(problem.nodes, choice, strict=True):
        if not 0 <= chosen < node.size:
            raise ValueError(f"node {node.name!r} has {node.size} choices; there is no number {chosen}")
        for producer, layout in zip(node.inputs, node.in_layouts[chosen].tolist(), strict=True):
            demanded[producer].add(layout)
    return [
        cheapest_arborescence(table, int(node.out_layout[chosen]), demands)
        for node, table, chosen, demands in zip(problem.nodes, problem.transform_s, choice, demanded, strict=True)
    ]
