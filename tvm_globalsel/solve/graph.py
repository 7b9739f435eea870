"""A partitioned boolean quadratic problem (PBQP) as a small mutable graph.

A node has a vector of costs, one for each choice; an edge has a matrix of costs, one for each pair of choices; infinite
means forbidden. The task is one choice a node with the least sum. Arrays are never written once they are in a graph, so
:meth:`Graph.copy` copies no numbers.

Whatever makes the graph smaller leaves a step on a *trail*. Run backwards, the trail completes an assignment of the
smaller graph to one of the larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Assignment = dict[int, int]


class Step(Protocol):
    """One simplification of a graph, seen backwards."""

    def decide(self, assignment: Assignment) -> None:
        """Extend or correct an assignment of the graph after this step to one of the graph before it."""
        ...


Trail = list[Step]


@dataclass(frozen=True)
class Factor:
    """A table of costs over several nodes: one axis for each node of ``scope``, in that order."""

    scope: tuple[int, ...]
    table: np.ndarray

    def along(self, scope: tuple[int, ...]) -> np.ndarray:
        """The table with an axis for each node of the larger ``scope``, of length 1 where it does not depend on it."""
        position = {node: axis for axis, node in enumerate(self.scope)}
        ordered = self.table.transpose([position[node] for node in scope if node in position])
        return ordered[tuple(slice(None) if node in position else None for node in scope)]


@dataclass(frozen=True)
class Eliminated:
    """``node`` was minimised away; ``factors`` are all the costs it took part in, ``others`` the nodes it met there."""

    node: int
    others: tuple[int, ...]
    factors: tuple[Factor, ...]

    def decide(self, assignment: Assignment) -> None:
        """Give ``node`` the best choice for what its neighbours chose."""
        costs: np.ndarray | float = 0.0
        for factor in self.factors:
            at = tuple(slice(None) if other == self.node else assignment[other] for other in factor.scope)
            costs = costs + factor.table[at]
        assignment[self.node] = int(np.argmin(costs))

    def joint(self) -> np.ndarray:
        """Costs over ``(node, *others)``."""
        scope = (self.node, *self.others)
        total: np.ndarray | float = 0.0
        for factor in self.factors:
            total = total + factor.along(scope)
        assert isinstance(total, np.ndarray)
        return total


@dataclass(frozen=True)
class Restricted:
    """Only the choices ``kept`` of ``node`` were left."""

    node: int
    kept: np.ndarray

    def decide(self, assignment: Assignment) -> None:
        """Translate the number among the kept choices to the number among all."""
        assignment[self.node] = int(self.kept[assignment[self.node]])


class Graph:
    """Nodes with cost vectors, edges with cost matrices, and a constant that every assignment pays.

    ``edges[u][v]`` has the choices of ``u`` as rows; ``edges[v][u]`` is its transpose.
    """

    def __init__(self) -> None:
        self.constant = 0.0
        self.costs: dict[int, np.ndarray] = {}
        self.edges: dict[int, dict[int, np.ndarray]] = {}

    def copy(self) -> Graph:
        """An independent graph with the same contents."""
        other = Graph()
        other.constant = self.constant
        other.costs = dict(self.costs)
        other.edges = {node: dict(row) for node, row in self.edges.items()}
        return other

    def subgraph(self, nodes: set[int]) -> Graph:
        """The nodes given and the edges among them, without the constant."""
        part = Graph()
        part.costs = {node: self.costs[node] for node in nodes}
        part.edges = {
            node: {other: matrix for other, matrix in self.edges[node].items() if other in nodes} for node in nodes
        }
        return part

    def add_node(self, node: int, costs: np.ndarray) -> None:
        """Add a node without edges."""
        self.costs[node] = costs
        self.edges[node] = {}

    def add_edge(self, first: int, second: int, matrix: np.ndarray) -> None:
        """Add ``matrix`` to the edge between two nodes, which need not exist yet."""
        known = self.edges[first].get(second)
        self.set_edge(first, second, matrix if known is None else known + matrix)

    def set_edge(self, first: int, second: int, matrix: np.ndarray) -> None:
        """Replace the edge between two nodes."""
        self.edges[first][second] = matrix
        self.edges[second][first] = matrix.T

    def remove_edge(self, first: int, second: int) -> None:
        """Forget the edge between two nodes."""
        del self.edges[first][second], self.edges[second][first]

    def remove_node(self, node: int) -> None:
        """Forget a node and its edges."""
        for other in self.edges.pop(node):
            del self.edges[other][node]
        del self.costs[node]

    def factors_of(self, node: int) -> tuple[Factor, ...]:
        """All the costs that depend on the choice of ``node``."""
        pairs = (Factor((node, other), matrix) for other, matrix in self.edges[node].items())
        return (Factor((node,), self.costs[node]), *pairs)

    def cost_of(self, assignment: Assignment) -> float:
        """What an assignment of every node costs."""
        total = self.constant + sum(float(costs[assignment[node]]) for node, costs in self.costs.items())
        for node, row in self.edges.items():
            mine = assignment[node]
            total += sum(float(m[mine, assignment[other]]) for other, m in row.items() if node < other)
        return total


def restrict(graph: Graph, node: int, kept: np.ndarray, trail: Trail) -> None:
    """Leave only the choices numbered in ``kept`` to ``node``."""
    graph.costs[node] = graph.costs[node][kept]
    for other, matrix in list(graph.edges[node].items()):
        graph.set_edge(node, other, np.ascontiguousarray(matrix[kept]))
    trail.append(Restricted(node, kept))


def complete(assignment: Assignment, trail: Trail) -> Assignment:
    """The assignment of the graph before ``trail`` that follows from one of the graph after it."""
    whole = dict(assignment)
    for step in reversed(trail):
        step.decide(whole)
    return whole
