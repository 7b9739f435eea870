"""Networks in the shape and size of real ones, with costs that look measured."""

from __future__ import annotations

import numpy as np

from tests.solve.networks import Network
from tvm_globalsel.problem import Problem


class Realistic(Network):
    """Each operator has variants around a base time; some layouts suit it better; transforms cost a fraction of it."""

    def operator(self, inputs: tuple[int, ...], choices: int) -> int:
        base = self.random.gamma(2.0, 1e-4)
        costs = base * (1.0 + self.random.gamma(1.5, 0.3, choices))
        reads = np.repeat(self.random.integers(0, self.layouts, (choices, 1)), len(inputs), 1)
        other = self.random.integers(0, self.layouts, choices)
        return self.add(inputs, reads, np.where(self.random.random(choices) < 0.6, reads[:, 0], other), costs)

    def join(self, inputs: tuple[int, ...]) -> int:
        every = np.arange(self.layouts)
        costs = self.random.gamma(2.0, 1e-5) * (1.0 + self.random.random(self.layouts) * 0.3)
        return self.add(inputs, np.repeat(every[:, None], len(inputs), 1), every, costs)

    def add(
        self, inputs: tuple[int, ...], reads: np.ndarray, writes: np.ndarray, costs: np.ndarray | None = None
    ) -> int:
        number = super().add(inputs, reads, writes, costs)
        table = self.transform_scale * self.random.gamma(2.0, 1e-5) * (1 + self.random.random((self.layouts,) * 2))
        np.fill_diagonal(table, 0.0)
        self.tables[-1] = table
        return number


def dense_block(net: Network, here: int, layers: int, choices: int) -> int:
    """DenseNet: each layer reads the concatenation of all before it (concat, bn, 1x1, 3x3)."""
    features = [here]
    for _ in range(layers):
        here = net.join(tuple(features)) if len(features) > 1 else features[0]
        here = net.join((here,))
        here = net.operator((here,), choices)
        features.append(net.operator((here,), choices))
    return net.join(tuple(features))


def residual_block(net: Network, here: int, choices: int) -> int:
    """ResNet's bottleneck with a projection or an identity."""
    inner = here
    for _ in range(3):
        inner = net.operator((inner,), choices)
    side = net.operator((here,), choices) if net.random.random() < 0.3 else here
    return net.join((inner, side))


def inception_block(net: Network, here: int, choices: int) -> int:
    """GoogLeNet's module: four branches and a concat."""
    ends = [net.operator((here,), choices)]
    for depth in (2, 2):
        end = here
        for _ in range(depth):
            end = net.operator((end,), choices)
        ends.append(end)
    ends.append(net.operator((net.join((here,)),), choices))
    return net.join(tuple(ends))


def densenet(layers: tuple[int, ...], layouts: int, choices: int, seed: int, scale: float = 1.0) -> Problem:
    """DenseNet with blocks of so many layers; (6, 12, 24, 16) is DenseNet-121."""
    net = Realistic(np.random.default_rng(seed), layouts, transform_scale=scale)
    here = net.join((net.operator((net.source(),), choices),))
    for number, count in enumerate(layers):
        here = dense_block(net, here, count, choices)
        if number + 1 < len(layers):
            here = net.join((net.operator((here,), choices),))
    net.sink(net.join((here,)))
    return net.problem()


def blocks(operators: int, layouts: int, choices: int, seed: int, scale: float = 1.0) -> Problem:
    """A chain of residual, inception and dense blocks with about this many operators."""
    net = Realistic(np.random.default_rng(seed), layouts, transform_scale=scale)
    here = net.source()
    while len(net.nodes) < operators - 1:
        kind = net.random.integers(3)
        if kind == 0:
            here = residual_block(net, here, choices)
        elif kind == 1:
            here = inception_block(net, here, choices)
        else:
            here = dense_block(net, here, int(net.random.integers(4, 17)), choices)
    net.sink(here)
    return net.problem()


def random_wired(stages: int, nodes: int, layouts: int, choices: int, seed: int, scale: float = 1.0) -> Problem:
    """RandWire: stages of Watts-Strogatz graphs, made acyclic by their order; not series-parallel at all."""
    net = Realistic(np.random.default_rng(seed), layouts, transform_scale=scale)
    here = net.source()
    for _ in range(stages):
        edges = set()
        for node in range(nodes):
            for step in (1, 2):
                other = (node + step) % nodes
                if net.random.random() < 0.75:
                    other = int(net.random.integers(nodes))
                if other != node:
                    edges.add((min(node, other), max(node, other)))
        made: list[int] = []
        for node in range(nodes):
            inputs = tuple(made[a] for a, b in sorted(edges) if b == node) or (here,)
            joined = net.join(inputs) if len(inputs) > 1 else inputs[0]
            made.append(net.operator((joined,), choices))
        ends = tuple(made[node] for node in range(nodes) if all(a != node for a, _ in edges))
        here = net.join(ends) if len(ends) > 1 else ends[0]
    net.sink(here)
    return net.problem()
