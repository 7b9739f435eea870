"""Variable elimination of any degree: exact, and cheap as long as the tables it makes stay small.

The general form of R0, RI and RII (Bertelé and Brioschi, "Nonserial dynamic programming", 1972; Dechter's bucket
elimination): a node goes by minimising over its choices the sum of all tables it occurs in, which leaves one table over
its neighbours.
"""

from __future__ import annotations

import heapq
import math
from random import Random

from tvm_globalsel.solve.graph import Eliminated, Factor, Graph

_ATTEMPTS = 20


def patient_order(graph: Graph, most_entries: int) -> list[int] | None:
    """As :func:`elimination_order`, with more attempts: a greedy order is often several times too large."""
    known = elimination_order(graph, most_entries)
    for attempt in range(_ATTEMPTS):
        known = known or elimination_order(graph, most_entries, Random(attempt))
    return known


def elimination_order(graph: Graph, most_entries: int, random: Random | None = None) -> list[int] | None:
    """An order in which all nodes can go without a table of more than ``most_entries``, or None if none was found.

    Greedy: the node with the smallest table goes next; with ``random``, sizes are blurred by up to a factor of 16.
    """
    sizes = {node: costs.size for node, costs in graph.costs.items()}
    near = {node: set(row) for node, row in graph.edges.items()}

    def entries(node: int) -> int:
        return sizes[node] * math.prod(sizes[other] for other in near[node])

    def rank(size: int) -> float:
        return size if random is None else size * 16.0 ** random.random()

    queue = [(rank(size), size, node) for node, size in ((node, entries(node)) for node in sizes)]
    heapq.heapify(queue)
    order: list[int] = []
    while queue:
        _, known, node = heapq.heappop(queue)
        if node not in near or known != entries(node):
            continue  # eliminated, or offered again since with another size
        if known > most_entries:
            return None
        order.append(node)
        others = near.pop(node)
        for other in others:
            near[other] |= others
            near[other] -= {node, other}
        for other in others:
            heapq.heappush(queue, (rank(entries(other)), entries(other), other))
    return order


def eliminate(graph: Graph, order: list[int]) -> list[Eliminated]:
    """Minimise all nodes away in this order; the graph is left empty with the optimum in its constant."""
    steps = []
    factors: dict[int, list[Factor]] = {node: [Factor((node,), costs)] for node, costs in graph.costs.items()}
    for node, row in graph.edges.items():
        for other, matrix in row.items():
            if node < other:
                pair = Factor((node, other), matrix)
                factors[node].append(pair)
                factors[other].append(pair)
    for node in order:
        mine = factors.pop(node)
        others = tuple(sorted({other for factor in mine for other in factor.scope} - {node}))
        step = Eliminated(node, others, tuple(mine))
        steps.append(step)
        table = step.joint().min(0)
        for other in others:
            factors[other] = [factor for factor in factors[other] if node not in factor.scope]
            factors[other].append(Factor(others, table))
        if not others:
            graph.constant += float(table)
        graph.remove_node(node)
    return steps
