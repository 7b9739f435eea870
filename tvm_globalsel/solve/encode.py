"""From a selection problem to PBQP, exactly: transforms shared by several consumers are paid once.

Operators become nodes with one choice for each signature (combination of layouts). A tensor with a single demand
becomes an edge that carries the cheapest chain of transforms. A tensor with several demands needs a *fan-out* node,
whose choices are the sets of layouts to provide: the edge from the producer prices the cheapest arborescence from the
produced layout to the set, the edges to the consumers are 0 where the set has what they read and infinite elsewhere.

Two things keep that small. A consumer that reads several tensors in the same layout for every choice (concat, add)
makes one and the same *demand* on each of them, so tensors with equal demands share a fan-out node. And where the
demands on one tensor include all those on another, as in a dense block, the larger fan-out node refers to the smaller
(its set contains the other's) instead of to all the consumers again: a dense block becomes a ladder that RII takes
apart, while the plain encoding of ``n`` layers is irreducible and of treewidth about ``n / 2``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from tvm_globalsel.arborescence import steiner_costs
from tvm_globalsel.problem import Infeasible, Problem
from tvm_globalsel.solve.graph import Assignment, Graph
from tvm_globalsel.solve.reductions import normalise_edges
from tvm_globalsel.solve.signatures import Signatures, closed_transforms, collapse, drop_dominated

_MOST_SETS = 4096
_TENSORS_AT_ONCE = 512


@dataclass(frozen=True)
class Demand:
    """What one consumer reads: ``layouts`` holds the layout for each signature of node ``consumer``."""

    consumer: int
    layouts: tuple[int, ...]


Demands = frozenset[Demand]


@dataclass
class Encoded:
    """A PBQP graph whose nodes ``0 .. len(signatures) - 1`` are the operators; fan-out nodes have higher numbers."""

    graph: Graph
    signatures: list[Signatures]
    fan_outs: int = 0

    def plan(self, assignment: Assignment) -> tuple[int, ...]:
        """The choice of each node of the problem under an assignment of the graph."""
        return tuple(int(known.choice[assignment[node]]) for node, known in enumerate(self.signatures))


@dataclass
class _FanOut:
    """``sets`` are bit masks over ``terminals``, the layouts that some consumer may demand."""

    number: int
    terminals: tuple[int, ...]
    sets: np.ndarray
    tensors: list[int] = field(default_factory=list)

    def holds(self, layouts: tuple[int, ...]) -> np.ndarray:
        """``(sets, len(layouts))`` whether the set has the layout."""
        bits = np.array([self.terminals.index(layout) for layout in layouts])
        return (self.sets[:, None] >> bits & 1).astype(bool)

    def members(self, layouts: int) -> np.ndarray:
        """The sets as bit masks over all layouts."""
        total = np.zeros_like(self.sets)
        for bit, terminal in enumerate(self.terminals):
            total |= (self.sets >> bit & 1) << terminal
        return total


def encode(problem: Problem, drop: bool = True) -> Encoded:
    """Write ``problem`` as PBQP; with ``drop`` without the signatures that no best plan needs.

    Raises Infeasible when all choices of a node are forbidden.
    """
    closed_s = closed_transforms(problem)
    encoded = Encoded(Graph(), [])
    for index, node in enumerate(problem.nodes):
        signatures = collapse(node)
        if signatures.choice.size == 0:
            raise Infeasible(f"node {node.name!r} cannot be satisfied: each of its {node.size} choices is forbidden")
        if drop:
            signatures = drop_dominated(signatures, node, closed_s, index)
        encoded.signatures.append(signatures)
        encoded.graph.add_node(index, signatures.costs_s)
    demands = _demands(problem, encoded.signatures)
    fan_outs = _add_fan_outs(encoded, demands, len(problem.layouts))
    _price_fan_outs(encoded, fan_outs, closed_s)
    for index, wanted in enumerate(demands):
        if len(wanted) == 1:
            (demand,) = wanted
            produced = encoded.signatures[index].out_layout
            chain_s = closed_s[index][produced[:, None], np.array(demand.layouts)]
            encoded.graph.add_edge(index, demand.consumer, chain_s)
    normalise_edges(encoded.graph)
    return encoded


def _demands(problem: Problem, signatures: list[Signatures]) -> list[Demands]:
    """The demands on each node's output, equal ones once."""
    wanted: list[set[Demand]] = [set() for _ in problem.nodes]
    for index, node in enumerate(problem.nodes):
        for producer, column in zip(node.inputs, signatures[index].in_layouts.T.tolist(), strict=True):
            wanted[producer].add(Demand(index, tuple(column)))
    return [frozenset(demands) for demands in wanted]


def _add_fan_outs(encoded: Encoded, demands: list[Demands], layouts: int) -> dict[Demands, _FanOut]:
    """Create the fan-out nodes, smaller ones first, and their edges to consumers and to each other."""
    graph, count = encoded.graph, len(encoded.signatures)
    tensors: dict[Demands, list[int]] = defaultdict(list)
    for index, wanted in enumerate(demands):
        if len(wanted) > 1:
            tensors[wanted].append(index)
    fan_outs: dict[Demands, _FanOut] = {}
    including: dict[Demand, list[Demands]] = defaultdict(list)
    for wanted in sorted(tensors, key=lambda group: (len(group), tensors[group])):
        fan_out = _fan_out(count + len(fan_outs), wanted)
        fan_out.tensors = tensors[wanted]
        graph.add_node(fan_out.number, np.zeros(fan_out.sets.size))
        left = set(wanted)
        for part in _cover(wanted, including):
            left -= part
            mine, theirs = fan_out.members(layouts), fan_outs[part].members(layouts)
            missing = theirs & ~mine[:, None]
            graph.add_edge(fan_out.number, fan_outs[part].number, np.where(missing == 0, 0.0, np.inf))
        for demand in sorted(left, key=lambda one: (one.consumer, one.layouts)):
            served = np.where(fan_out.holds(demand.layouts), 0.0, np.inf)
            graph.add_edge(fan_out.number, demand.consumer, served)
        fan_outs[wanted] = fan_out
        for demand in wanted:
            including[demand].append(wanted)
    encoded.fan_outs = len(fan_outs)
    return fan_outs


def _fan_out(number: int, wanted: Demands) -> _FanOut:
    """All sets of layouts that the demands can amount to: each is served, and none larger than there are demands."""
    terminals = tuple(sorted({layout for demand in wanted for layout in demand.layouts}))
    if 1 << len(terminals) > _MOST_SETS:
        raise ValueError(f"{len(terminals)} layouts are demanded of one tensor: too many sets of them for this solver")
    sets = np.arange(1, 1 << len(terminals))
    sets = sets[np.bitwise_count(sets) <= len(wanted)]
    fan_out = _FanOut(number, terminals, sets)
    for demand in wanted:
        fan_out.sets = fan_out.sets[fan_out.holds(tuple(set(demand.layouts))).any(1)]
    return fan_out


def _cover(wanted: Demands, including: dict[Demand, list[Demands]]) -> list[Demands]:
    """Known groups inside ``wanted`` that between them spare the most edges, chosen greedily."""
    inside = {group for demand in wanted for group in including[demand] if group < wanted}
    left, chosen = set(wanted), []
    while inside:
        best = max(inside, key=lambda group: (len(left & group), -len(group), min(d.consumer for d in group)))
        if len(left & best) < 2:
            break
        left -= best
        inside.remove(best)
        chosen.append(best)
    return chosen


def _price_fan_outs(encoded: Encoded, fan_outs: dict[Demands, _FanOut], closed_s: np.ndarray) -> None:
    """Add the edges from producers to fan-out nodes, computing arborescences for many tensors at once."""
    alike: dict[tuple[tuple[int, ...], int], list[tuple[int, _FanOut]]] = defaultdict(list)
    for wanted, fan_out in fan_outs.items():
        most = min(len(wanted), len(fan_out.terminals))
        alike[fan_out.terminals, most] += [(tensor, fan_out) for tensor in fan_out.tensors]
    for (terminals, most), members in alike.items():
        for start in range(0, len(members), _TENSORS_AT_ONCE):
            batch = members[start : start + _TENSORS_AT_ONCE]
            costs_s = steiner_costs(closed_s[[tensor for tensor, _ in batch]], terminals, most)
            for (tensor, fan_out), table in zip(batch, costs_s, strict=True):
                produced = encoded.signatures[tensor].out_layout
                encoded.graph.add_edge(tensor, fan_out.number, table[produced[:, None], fan_out.sets])
