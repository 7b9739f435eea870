"""Random networks of every shape the solvers must cope with, and larger ones in the shape of real networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tvm_globalsel.problem import NodeChoices, Problem

KINDS = ("chain", "tree", "diamond", "inception", "dense", "dag")


@dataclass
class Network:
    """A network under construction; costs are drawn from ``random``.

    ``whole`` costs are small integers: many ties, and sums without rounding. ``forbidden`` is the share of choices and
    transforms that are infinite; ``free`` the share of transforms that cost nothing.
    """

    random: np.random.Generator
    layouts: int
    whole: bool = False
    forbidden: float = 0.0
    free: float = 0.0
    transform_scale: float = 1.0
    nodes: list[NodeChoices] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)

    def amounts(self, shape: tuple[int, ...]) -> np.ndarray:
        """Random costs."""
        if self.whole:
            return self.random.integers(0, 8, shape).astype(float)
        return self.random.gamma(2.0, 1.0, shape)

    def add(
        self, inputs: tuple[int, ...], reads: np.ndarray, writes: np.ndarray, costs: np.ndarray | None = None
    ) -> int:
        """Add a node and return its number."""
        choices, number = len(writes), len(self.nodes)
        if costs is None:
            costs = self.amounts((choices,))
            if choices > 1:
                costs[self.random.random(choices) < self.forbidden] = np.inf
        labels = tuple(f"v{i}" for i in range(choices))
        families = tuple("sum2d" if i == 0 and choices > 1 else "other" for i in range(choices))
        self.nodes.append(NodeChoices(f"n{number}", costs, writes, reads, inputs, labels, families))
        table = self.amounts((self.layouts, self.layouts)) * self.transform_scale
        table[self.random.random(table.shape) < self.forbidden] = np.inf
        table[self.random.random(table.shape) < self.free] = 0.0
        np.fill_diagonal(table, 0.0)
        self.tables.append(table)
        return number

    def operator(self, inputs: tuple[int, ...], choices: int) -> int:
        """A node whose choices read and write any layouts."""
        reads = self.random.integers(0, self.layouts, (choices, len(inputs)))
        return self.add(inputs, reads, self.random.integers(0, self.layouts, choices))

    def join(self, inputs: tuple[int, ...]) -> int:
        """Concat or add: a choice for each layout, the same on all sides."""
        every = np.arange(self.layouts)
        return self.add(inputs, np.repeat(every[:, None], len(inputs), 1), every)

    def source(self) -> int:
        """A graph input in layout 0."""
        return self.add((), np.zeros((1, 0), int), np.zeros(1, int), np.zeros(1))

    def sink(self, producer: int) -> int:
        """A graph output in layout 0."""
        return self.add((producer,), np.zeros((1, 1), int), np.zeros(1, int), np.zeros(1))

    def problem(self) -> Problem:
        """The finished problem."""
        return Problem(tuple(f"L{i}" for i in range(self.layouts)), tuple(self.nodes), tuple(self.tables))


def small(kind: str, seed: int, most_plans: int = 6000) -> Problem:
    """A random network of this kind that enumeration can solve."""
    random = np.random.default_rng([KINDS.index(kind), seed])
    net = Network(
        random,
        layouts=int(random.integers(1, 5)),
        whole=bool(random.random() < 0.5),
        forbidden=float(random.choice([0.0, 0.0, 0.1, 0.3])),
        free=float(random.choice([0.0, 0.0, 0.3])),
        transform_scale=float(random.choice([0.2, 1.0, 4.0])),
    )
    left = [float(most_plans)]

    def choices() -> int:
        count = int(random.integers(1, 5))
        count = max(1, min(count, int(left[0])))
        left[0] /= count
        return count

    def join(inputs: tuple[int, ...]) -> int:
        if left[0] < net.layouts or random.random() < 0.3:
            return net.operator(inputs, choices())
        left[0] /= net.layouts
        return net.join(inputs)

    def unary(producer: int) -> int:
        return net.operator((producer,), choices())

    here = net.source()
    if kind == "chain":
        for _ in range(random.integers(1, 9)):
            here = unary(here)
    elif kind == "tree":
        for _ in range(random.integers(2, 9)):
            unary(int(random.integers(len(net.nodes))))
    elif kind == "diamond":
        for _ in range(random.integers(1, 4)):
            fork = unary(here)
            sides = [unary(fork) for _ in range(random.integers(1, 3))]
            here = join((*sides, fork) if random.random() < 0.7 else (*sides, *sides))
    elif kind == "inception":
        for _ in range(random.integers(1, 3)):
            ends = []
            for _ in range(random.integers(2, 5)):
                end = here
                for _ in range(random.integers(1, 3)):
                    end = unary(end)
                ends.append(end)
            here = join(tuple(ends))
    elif kind == "dense":
        features = [unary(here)]
        for _ in range(random.integers(2, 5)):
            here = join(tuple(features))
            features.append(unary(here))
        here = join(tuple(features))
    else:
        for _ in range(random.integers(3, 9)):
            count = min(len(net.nodes), int(random.integers(1, 5)))
            producers = random.integers(0, len(net.nodes), count)
            here = (join if random.random() < 0.5 else lambda i: net.operator(i, choices()))(tuple(producers.tolist()))
    for producer in range(len(net.nodes)):
        if all(producer not in node.inputs for node in net.nodes) and random.random() < 0.8:
            net.sink(producer)
    return net.problem()
