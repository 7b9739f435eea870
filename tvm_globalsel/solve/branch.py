"""Exact minimisation of any PBQP graph: reduce, eliminate, take apart, bound, and only then branch.

Costs are compared with a relative tolerance of 1e-12, that is, the proof is up to the rounding of the sums.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.solve.bounds import DualBound
from tvm_globalsel.solve.elimination import eliminate, elimination_order
from tvm_globalsel.solve.graph import Assignment, Graph, Trail, complete, restrict
from tvm_globalsel.solve.pieces import leaf
from tvm_globalsel.solve.reductions import drop_forbidden, normalise_edge, normalise_edges, reduce_all

#: Entries of the largest table that elimination may make: 8 MiB of costs.
MOST_ENTRIES = 1 << 20
_SWEEPS = 60
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Search:
    """What stays the same during one search. ``counts`` gathers how often each device was used."""

    counts: Counter[str]
    most_entries: int = MOST_ENTRIES


@dataclass(frozen=True)
class Outcome:
    """The least cost of a graph and an assignment of all its nodes that has it."""

    cost: float
    assignment: Assignment


@dataclass(frozen=True)
class Hung:
    """A part of the graph that hung on ``node`` was solved for each choice of it; None where that is impossible."""

    node: int
    parts: tuple[Assignment | None, ...]

    def decide(self, assignment: Assignment) -> None:
        """Fill in the part that belongs to what the cut node chose."""
        part = self.parts[assignment[self.node]]
        assert part is not None, "an impossible choice was made"
        assignment.update(part)


@dataclass(frozen=True)
class Apart:
    """A part of the graph that had nothing to do with the rest was solved by itself."""

    part: Assignment

    def decide(self, assignment: Assignment) -> None:
        """Fill in the part."""
        assignment.update(self.part)


def minimise(graph: Graph, cutoff: float, search: Search) -> Outcome | None:
    """The optimum of ``graph``, or None when no assignment costs less than ``cutoff``. Uses up the graph."""
    trail: Trail = []
    best: Outcome | None = None
    while True:
        reduce_all(graph, trail, search.counts)
        if _reaches(graph.constant, cutoff):
            return best
        if graph.costs:
            order = elimination_order(graph, search.most_entries)
            if order is not None:
                search.counts["eliminated"] += len(order)
                trail += eliminate(graph, order)
        if not graph.costs:
            if _reaches(graph.constant, cutoff):
                return best
            return Outcome(graph.constant, complete({}, trail))
        if not drop_forbidden(graph, trail):
            return best
        if not all(len(row) > 2 for row in graph.edges.values()):
            continue
        if _split_off(graph, trail, search):
            continue
        bound = DualBound(graph)
        bound.ascend(_SWEEPS, cutoff - graph.constant)
        if _reaches(graph.constant + bound.value, cutoff):
            return best
        rounded = bound.round()
        cost = graph.cost_of(rounded)
        if cost < cutoff:
            cutoff = cost
            best = Outcome(cost, complete(rounded, trail))
            if _reaches(graph.constant + bound.value, cutoff):
                return best
        if not _drop_too_dear(graph, bound, cutoff, trail):
            return _branch(graph, bound, cutoff, best, trail, search)


def _reaches(bound: float, cutoff: float) -> bool:
    return bound == np.inf or bound >= cutoff - _TOLERANCE * abs(cutoff)


def _split_off(graph: Graph, trail: Trail, search: Search) -> bool:
    """Solve one part that hangs on the rest by a single node, once for each choice of that node, and fold it in."""
    found = leaf(graph)
    if found is None:
        return False
    nodes, cut = found
    part = graph.subgraph(nodes)
    search.counts["parts"] += 1
    if cut is None:
        outcome = minimise(part, np.inf, search)
        graph.constant += np.inf if outcome is None else outcome.cost
        trail.append(Apart({} if outcome is None else outcome.assignment))
        _remove(graph, nodes)
        return True
    outcomes = []
    part.costs[cut] = np.zeros_like(part.costs[cut])
    for choice in range(part.costs[cut].size):
        fixed = part.copy()
        fix(fixed, cut, choice, [])
        outcomes.append(minimise(fixed, np.inf, search))
    trail.append(Hung(cut, tuple(None if o is None else _without(o.assignment, cut) for o in outcomes)))
    graph.costs[cut] = graph.costs[cut] + np.array([np.inf if o is None else o.cost for o in outcomes])
    _remove(graph, nodes - {cut})
    return True


def fix(graph: Graph, node: int, choice: int, trail: Trail) -> None:
    """Leave one choice to a node, and so no edges."""
    restrict(graph, node, np.array([choice]), trail)
    for other in list(graph.edges[node]):
        normalise_edge(graph, node, other)


def _remove(graph: Graph, nodes: set[int]) -> None:
    for node in nodes:
        graph.remove_node(node)


def _without(assignment: Assignment, node: int) -> Assignment:
    return {other: choice for other, choice in assignment.items() if other != node}


def _drop_too_dear(graph: Graph, bound: DualBound, cutoff: float, trail: Trail) -> bool:
    """Drop the choices that cannot be part of anything cheaper than ``cutoff``; whether that is worth a new start."""
    before = after = 0
    for node, excess in list(bound.excess.items()):
        least = graph.constant + bound.value + excess
        kept = np.flatnonzero(least < cutoff - _TOLERANCE * abs(cutoff))
        before += excess.size
        after += kept.size
        if kept.size == 0:  # nothing is cheaper than the incumbent: the search ends at the next look at the constant
            graph.constant = np.inf
            return True
        if kept.size < excess.size:
            restrict(graph, node, kept, trail)
            bound.excess[node] = excess[kept]
    normalise_edges(graph)
    return after < 0.8 * before


def _branch(
    graph: Graph, bound: DualBound, cutoff: float, best: Outcome | None, trail: Trail, search: Search
) -> Outcome | None:
    """Try each choice of one node, the most promising first: the node that ties the most knots and splits the least."""
    search.counts["branch nodes"] += 1
    node = min(graph.costs, key=lambda one: (-len(graph.edges[one]), graph.costs[one].size, one))
    for choice in np.argsort(bound.excess[node], kind="stable").tolist():
        part = graph.copy()
        own: Trail = []
        fix(part, node, choice, own)
        outcome = minimise(part, cutoff, search)
        if outcome is not None:
            cutoff = outcome.cost
            best = Outcome(cutoff, complete(complete(outcome.assignment, own), trail))
    return best
