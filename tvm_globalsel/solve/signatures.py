"""The choices of an operator that can matter to a whole network: at most one for each combination of layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.arborescence import shortest_paths
from tvm_globalsel.problem import NodeChoices, Problem


@dataclass(frozen=True, eq=False)
class Signatures:
    """The cheapest choice of one node for each combination of input and output layouts.

    ``choice`` numbers them as the node does; the other arrays are the node's, restricted to them. ``of_choice`` says
    for each choice of the node which signature it has, -1 for a forbidden or dropped one.
    """

    choice: np.ndarray
    costs_s: np.ndarray
    in_layouts: np.ndarray
    out_layout: np.ndarray
    of_choice: np.ndarray


def closed_transforms(problem: Problem) -> np.ndarray:
    """``(nodes, layouts, layouts)`` seconds of the cheapest chain of transforms of each node's output."""
    return shortest_paths(np.array(problem.transform_s).reshape(-1, len(problem.layouts), len(problem.layouts)))


def collapse(node: NodeChoices) -> Signatures:
    """Keep the first of the cheapest choices for each combination of layouts; nothing else can be in a best plan."""
    rows = np.column_stack([node.in_layouts, node.out_layout])
    keys = [row.tobytes() for row in rows]
    cheapest: dict[bytes, int] = {}
    for index in np.argsort(node.costs_s, kind="stable").tolist():
        if node.costs_s[index] < np.inf:
            cheapest.setdefault(keys[index], index)
    choice = np.array(sorted(cheapest.values()), dtype=np.int64)
    number = {keys[index]: position for position, index in enumerate(choice.tolist())}
    of_choice = np.array([number.get(key, -1) for key in keys], dtype=np.int64)
    of_choice[np.isinf(node.costs_s)] = -1
    return _signatures(node, choice, of_choice)


def efficient(node: NodeChoices, demands: Sequence[np.ndarray]) -> Signatures:
    """For each combination of layouts the choices of which no other is as good in cost and in all of ``demands``.

    ``demands`` are ``(choices,)`` amounts (bytes, errors) that side constraints limit: less is better. Among equals the
    first stays.
    """
    amounts = np.column_stack([node.costs_s, *demands])
    groups: dict[bytes, list[int]] = {}
    for index, row in enumerate(np.column_stack([node.in_layouts, node.out_layout])):
        if node.costs_s[index] < np.inf:
            groups.setdefault(row.tobytes(), []).append(index)
    kept: list[int] = []
    for members in groups.values():
        for index in members:
            at_least = (amounts[members] <= amounts[index]).all(1)
            better = at_least & ((amounts[members] < amounts[index]).any(1) | (np.array(members) < index))
            if not better.any():
                kept.append(index)
    choice = np.array(sorted(kept), dtype=np.int64)
    of_choice = np.full(node.size, -1)
    of_choice[choice] = np.arange(choice.size)
    return _signatures(node, choice, of_choice)


def drop_dominated(signatures: Signatures, node: NodeChoices, closed_s: np.ndarray, index: int) -> Signatures:
    """Drop every signature that another one beats even when it pays for transforms on all sides to take its place.

    Exact for the optimum of the network: transforms in front turn what the dropped one read into what the other reads,
    transforms behind turn what the other writes into what the dropped one wrote, and sharing only makes that cheaper.
    ``closed_s`` is :func:`closed_transforms` and ``index`` the number of the node.
    """
    reads, writes, costs_s = signatures.in_layouts, signatures.out_layout, signatures.costs_s
    if costs_s.size < 2:
        return signatures
    # instead[r, t]: seconds of t, taking the place of r
    instead = costs_s + closed_s[index][writes[None, :], writes[:, None]]
    for slot, producer in enumerate(node.inputs):
        instead += closed_s[producer][reads[:, None, slot], reads[None, :, slot]]
    beaten = instead < costs_s[:, None]
    if not beaten.any():
        return signatures
    alive = np.ones(costs_s.size, dtype=bool)
    for position in np.argsort(-costs_s, kind="stable").tolist():
        alive[position] = not (beaten[position] & alive).any()
    number = np.where(alive, np.cumsum(alive) - 1, -1)
    of_choice = np.where(signatures.of_choice >= 0, number[signatures.of_choice], -1)
    return _signatures(node, signatures.choice[alive], of_choice)


def _signatures(node: NodeChoices, choice: np.ndarray, of_choice: np.ndarray) -> Signatures:
    return Signatures(choice, node.costs_s[choice], node.in_layouts[choice], node.out_layout[choice], of_choice)
