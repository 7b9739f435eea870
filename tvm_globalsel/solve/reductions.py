"""The exact reductions of PBQP: nodes with no, one or two neighbours are minimised away.

R0, RI and RII as in Scholz and Eckstein, "Register allocation for irregular architectures" (LCTES 2002), and in LLVM's
PBQP register allocator. Series-parallel networks - chains, inception modules, residual blocks, U-nets, and dense blocks
as :mod:`tvm_globalsel.solve.encode` writes them - reduce to nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np

from tvm_globalsel.solve.graph import Eliminated, Graph, Trail, restrict


def normalise_edge(graph: Graph, first: int, second: int) -> None:
    """Move what an edge costs in any case to its two nodes, and drop the edge when nothing is left of it.

    A choice that the edge forbids altogether becomes infinite at its node. An edge whose matrix is the sum of a row and
    a column vanishes, and so do all edges of a node with one choice.
    """
    matrix = graph.edges[first][second]
    rows = matrix.min(1)
    dead = False
    if rows.any():
        graph.costs[first] = graph.costs[first] + rows
        dead = bool(np.isinf(rows).any())
        matrix = matrix - np.where(np.isinf(rows), 0.0, rows)[:, None]
    columns = matrix.min(0)
    if columns.any():
        graph.costs[second] = graph.costs[second] + columns
        dead = dead or bool(np.isinf(columns).any())
        matrix = matrix - np.where(np.isinf(columns), 0.0, columns)
    if dead:  # the infinity now stands at the node; in the matrix it would only keep the edge alive
        matrix = np.where(np.isinf(rows)[:, None] | np.isinf(columns), 0.0, matrix)
    if matrix.any():
        graph.set_edge(first, second, matrix)
    else:
        graph.remove_edge(first, second)


def normalise_edges(graph: Graph) -> None:
    """Normalise all edges; whatever an edge forbids altogether then shows at a node."""
    for first in list(graph.costs):
        for second in list(graph.edges[first]):
            if first < second:
                normalise_edge(graph, first, second)


def reduce_r0(graph: Graph, node: int, trail: Trail) -> None:
    """Take out a node without edges: its cheapest choice is part of the optimum."""
    trail.append(Eliminated(node, (), graph.factors_of(node)))
    graph.constant += float(graph.costs[node].min())
    graph.remove_node(node)


def reduce_r1(graph: Graph, node: int, trail: Trail) -> None:
    """Fold a node with one edge into its neighbour's costs."""
    ((other, matrix),) = graph.edges[node].items()
    trail.append(Eliminated(node, (other,), graph.factors_of(node)))
    graph.costs[other] = graph.costs[other] + (graph.costs[node][:, None] + matrix).min(0)
    graph.remove_node(node)


def reduce_r2(graph: Graph, node: int, trail: Trail) -> None:
    """Fold a node with two edges into an edge between its neighbours: a product of matrices in (min, +)."""
    (first, to_first), (second, to_second) = graph.edges[node].items()
    trail.append(Eliminated(node, (first, second), graph.factors_of(node)))
    to_first = graph.costs[node][:, None] + to_first
    folded = (to_first[:, :, None] + to_second[:, None, :]).min(0)
    graph.remove_node(node)
    graph.add_edge(first, second, folded)
    normalise_edge(graph, first, second)


_REDUCTIONS = (("R0", reduce_r0), ("RI", reduce_r1), ("RII", reduce_r2))


def reduce_all(graph: Graph, trail: Trail, counts: Counter[str]) -> None:
    """Apply R0, RI and RII until every node left has three neighbours or more; the cheapest reduction comes first."""
    queue: list[tuple[int, int]] = []

    def offer(node: int) -> None:
        row = graph.edges[node]
        if len(row) <= 2:
            work = graph.costs[node].size
            for matrix in row.values():
                work *= matrix.shape[1]
            heapq.heappush(queue, (work, node))

    for node in graph.costs:
        offer(node)
    while queue:
        _, node = heapq.heappop(queue)
        if node not in graph.costs:
            continue
        others = list(graph.edges[node])
        name, reduction = _REDUCTIONS[len(others)]
        reduction(graph, node, trail)
        counts[name] += 1
        for other in others:
            offer(other)


def drop_forbidden(graph: Graph, trail: Trail) -> bool:
    """Remove every choice that no assignment of finite cost can use with its neighbours; False when none is left."""
    normalise_edges(graph)
    pending = list(graph.costs)
    while pending:
        node = pending.pop()
        kept = np.flatnonzero(np.isfinite(graph.costs[node]))
        if kept.size == 0:
            return False
        if kept.size == graph.costs[node].size:
            continue
        restrict(graph, node, kept, trail)
        for other in list(graph.edges[node]):
            normalise_edge(graph, node, other)
            pending.append(other)
        pending.append(node)
    return True
