"""The cheapest way to have one tensor in several layouts: shortest chains and Steiner arborescences of transforms.

Layouts are the vertices of a complete directed graph whose arcs are priced by the seconds of one transform. A tensor is
produced in one layout, the root; every layout some consumer demands is a terminal. The cheapest set of transforms is a
minimum Steiner arborescence: exact by Dreyfus and Wagner's dynamic programme over sets of terminals ("The Steiner
problem in graphs", Networks 1, 1971), which is cheap because there are few layouts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Arc = tuple[int, int]


def shortest_paths(transform_s: np.ndarray) -> np.ndarray:
    """Seconds of the cheapest chain of transforms between any two layouts: ``(..., L, L)`` to ``(..., L, L)``."""
    closed = np.array(transform_s, dtype=np.float64)
    for middle in range(closed.shape[-1]):
        np.minimum(closed, closed[..., :, middle, None] + closed[..., middle, None, :], out=closed)
    return closed


def steiner_costs(closed_s: np.ndarray, terminals: tuple[int, ...], most: int) -> np.ndarray:
    """Seconds to reach each set of at most ``most`` terminals from each layout, for many tensors at once.

    ``closed_s`` is ``(tensors, L, L)``, closed under chains. The result is ``(tensors, L, 2 ** len(terminals))``: bit
    ``b`` of the last index says that ``terminals[b]`` is in the set. Sets larger than ``most`` are left infinite.
    """
    count, layouts = closed_s.shape[0], closed_s.shape[1]
    sets = 1 << len(terminals)
    # the set comes first while computing: each step then works on contiguous (tensors, L) blocks
    costs = np.full((sets, count, layouts), np.inf)
    costs[0] = 0.0
    for bit, terminal in enumerate(terminals):
        costs[1 << bit] = closed_s[:, :, terminal]
    for members in range(sets):
        if not 2 <= members.bit_count() <= most:
            continue
        lowest = members & -members  # each split once: the part that holds the lowest terminal
        forked = costs[members]
        part = (members - 1) & members
        while part:
            if part & lowest:
                np.minimum(forked, costs[part] + costs[members ^ part], out=forked)
            part = (part - 1) & members
        costs[members] = (closed_s + forked[:, None, :]).min(2)
    return np.ascontiguousarray(costs.transpose(1, 2, 0))


def cheapest_arborescence(transform_s: np.ndarray, root: int, terminals: Iterable[int]) -> tuple[Arc, ...] | None:
    """The transforms that make every terminal from ``root`` at the least total cost, sources before what they feed.

    ``transform_s`` is the raw ``(L, L)`` table of one tensor. Returns None when a terminal cannot be reached.
    """
    wanted = tuple(sorted(set(terminals) - {root}))
    if not wanted:
        return ()
    closed_s, successor = _paths(transform_s)
    if np.isinf(closed_s[root, list(wanted)]).any():
        return None
    if len(wanted) == 1:
        return tuple(_chain(successor, root, wanted[0]))
    costs = steiner_costs(closed_s[None], wanted, len(wanted))[0]
    arcs: list[Arc] = []
    pending = [(root, (1 << len(wanted)) - 1)]
    while pending:
        layout, members = pending.pop()
        if members & (members - 1) == 0:
            arcs += _chain(successor, layout, wanted[members.bit_length() - 1])
            continue
        fork, part = _cheapest_fork(closed_s, costs, layout, members)
        arcs += _chain(successor, layout, fork)
        pending += [(fork, part), (fork, members ^ part)]
    return _as_arborescence(arcs, root, wanted)


def _paths(transform_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closed costs, and the layout that follows each row on its cheapest chain to each column."""
    closed_s = np.array(transform_s, dtype=np.float64)
    layouts = len(closed_s)
    successor = np.broadcast_to(np.arange(layouts), (layouts, layouts)).copy()
    for middle in range(layouts):
        detour = closed_s[:, middle, None] + closed_s[None, middle, :]
        better = detour < closed_s  # strictly: among equals the single transform stays
        closed_s = np.where(better, detour, closed_s)
        successor = np.where(better, successor[:, middle, None], successor)
    return closed_s, successor


def _chain(successor: np.ndarray, source: int, destination: int) -> list[Arc]:
    arcs = []
    while source != destination:
        following = int(successor[source, destination])
        arcs.append((source, following))
        source = following
    return arcs


def _cheapest_fork(closed_s: np.ndarray, costs: np.ndarray, layout: int, members: int) -> tuple[int, int]:
    """Where the cheapest arborescence from ``layout`` to the set ``members`` forks, and one of its two parts."""
    best, at = np.inf, (layout, members & -members)
    part = (members - 1) & members
    while part:
        if part & (members & -members):
            total = closed_s[layout] + costs[:, part] + costs[:, members ^ part]
            fork = layout if total[layout] <= total.min() else int(total.argmin())
            if total[fork] < best:
                best, at = float(total[fork]), (fork, part)
        part = (part - 1) & members
    return at


def _as_arborescence(arcs: list[Arc], root: int, wanted: tuple[int, ...]) -> tuple[Arc, ...]:
    """Keep one way into each layout and nothing that leads nowhere: free arcs may have brought more than needed."""
    parent: dict[int, int] = {root: root}
    queue = [root]
    for source in queue:
        for first, second in arcs:
            if first == source and second not in parent:
                parent[second] = source
                queue.append(second)
    needed = {root}
    for layout in wanted:
        while layout not in needed:
            needed.add(layout)
            layout = parent[layout]
    return tuple((parent[layout], layout) for layout in queue if layout in needed and layout != root)
