"""A lower bound for PBQP graphs that do not reduce, by block-coordinate ascent on the dual of the linear relaxation.

Costs are moved between nodes and edges, which changes no assignment's total, so that the sum of all the separate minima
grows. The schedule is that of sequential tree-reweighted message passing (Kolmogorov, "Convergent tree-reweighted
message passing for energy minimization", PAMI 2006): sweep over the nodes in order; pull from every edge what it costs
in any case, hand it on in equal parts to the edges ahead; turn round.
"""

from __future__ import annotations

import numpy as np

from tvm_globalsel.solve.graph import Assignment, Graph

_LEAST_GAIN = 3e-3
_MEASURED_EVERY = 4


class DualBound:
    """No assignment costs less than ``value``, and none that makes a choice less than ``value`` plus its ``excess``.

    Every choice must be possible: see :func:`tvm_globalsel.solve.reductions.drop_forbidden`.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes = sorted(graph.costs)
        self._pulled = {node: {other: np.zeros(graph.costs[node].size) for other in graph.edges[node]}
                        for node in self._nodes}  # fmt: skip
        self.excess: dict[int, np.ndarray] = {}
        self.value = 0.0
        self._measure()

    def ascend(self, sweeps: int, enough: float) -> None:
        """Raise the bound by at most ``sweeps`` sweeps there and back, stopping at ``enough`` or when progress ends."""
        first_gain = 0.0
        for _ in range(0, sweeps, _MEASURED_EVERY):
            before = self.value
            for _ in range(_MEASURED_EVERY):
                self._sweep(self._nodes)
                self._sweep(self._nodes[::-1])
            self._measure()
            gain = self.value - before
            first_gain = max(first_gain, gain)
            if self.value >= enough or gain <= _LEAST_GAIN * first_gain:
                break

    def _pull(self, node: int) -> dict[int, np.ndarray]:
        """For each edge of the node, what it costs in any case for each choice of the node."""
        return {other: (matrix - self._pulled[other][node]).min(1) for other, matrix in self._graph.edges[node].items()}

    def _sweep(self, order: list[int]) -> None:
        position = {node: place for place, node in enumerate(order)}
        for node in order:
            pulled = self._pull(node)
            total = self._graph.costs[node] + sum(pulled.values())
            ahead = [other for other in pulled if position[other] > position[node]]
            if ahead:
                share = total / max(len(ahead), len(pulled) - len(ahead))
                for other in ahead:
                    pulled[other] = pulled[other] - share
            self._pulled[node] = pulled

    def _measure(self) -> None:
        """Set the bound, and for each choice by how much the bound grows when the choice is fixed."""
        apart: dict[tuple[int, int], float] = {}
        for node in self._nodes:
            for other, matrix in self._graph.edges[node].items():
                if node < other:
                    left = matrix - self._pulled[node][other][:, None] - self._pulled[other][node]
                    apart[node, other] = apart[other, node] = float(left.min())
        alone = {
            node: float((self._graph.costs[node] + sum(self._pulled[node].values())).min()) for node in self._nodes
        }
        self.value = sum(alone.values()) + sum(cost for (node, other), cost in apart.items() if node < other)
        for node in self._nodes:
            pulled = self._pull(node)
            counted = alone[node] + sum(apart[node, other] for other in pulled)
            self.excess[node] = self._graph.costs[node] + sum(pulled.values()) - counted

    def round(self) -> Assignment:
        """A good assignment: each node in turn takes what is cheapest given those before it, then all improve."""
        chosen: Assignment = {}
        for node in self._nodes:
            total = self._graph.costs[node]
            for other, matrix in self._graph.edges[node].items():
                ahead = self._pulled[node][other]
                total = total + (matrix[:, chosen[other]] if other in chosen else ahead)
            chosen[node] = int(np.argmin(total))
        for _ in range(3):
            for node in self._nodes:
                total = self._graph.costs[node]
                for other, matrix in self._graph.edges[node].items():
                    total = total + matrix[:, chosen[other]]
                chosen[node] = int(np.argmin(total))
        return chosen
