"""How much memory a plan needs at its peak: live activations, the running operator's workspace, all packed weights.

Operators run in the problem's order. An activation lives, in each layout in which it is held, from the moment it is
made until its last reader has run; layouts between which a transform is free both ways are one and the same storage.
All transforms of a tensor run right after its producer, and are charged as if all their results were there at once.
A memory planner that reuses storage greedily needs more than this sum of what is live.
:func:`peak` is the only definition of a plan's memory; :mod:`tvm_globalsel.solve.memory_rows` is checked against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.arborescence import Arc, shortest_paths
from tvm_globalsel.problem import Problem, transforms_of_plan


@dataclass(frozen=True, eq=False)
class Memory:
    """What the parts of a problem take, in bytes; one entry a node.

    ``tensor_bytes`` ``(layouts,)``: the node's output in each layout, 0 where that takes no storage of its own (a view,
    a graph output). ``workspace_bytes`` and ``weight_bytes`` ``(choices,)``. ``held_until``: the number of the last
    node during which what the node READS must be kept: itself, later for views and graph outputs.
    """

    tensor_bytes: tuple[np.ndarray, ...]
    workspace_bytes: tuple[np.ndarray, ...]
    weight_bytes: tuple[np.ndarray, ...]
    held_until: tuple[int, ...]


@dataclass(frozen=True)
class Peak:
    """The peak of a plan: bytes of everything, and of its parts while ``node`` runs or its output is transformed."""

    total_bytes: int
    node: str
    activation_bytes: int
    workspace_bytes: int
    weight_bytes: int


def storage(problem: Problem, memory: Memory, node: int) -> tuple[np.ndarray, np.ndarray]:
    """``(layouts,)`` which storage each layout of the node's output lies in, and ``(storages,)`` how large they are."""
    chains = shortest_paths(problem.transform_s[node])  # whatever is free by way of others is the same storage too
    alike = (chains == 0) & (chains.T == 0)
    _, number = np.unique(alike.argmax(1), return_inverse=True)
    sizes = np.zeros(int(number.max()) + 1)
    np.maximum.at(sizes, number, memory.tensor_bytes[node])
    return number, sizes


def peak(problem: Problem, memory: Memory, choice: Sequence[int]) -> Peak:
    """The memory of a plan of finite cost. Raises Infeasible for another."""
    live = _live(problem, memory, choice)
    weights = sum(float(w[c]) for w, c in zip(memory.weight_bytes, choice, strict=True))
    workspace = np.zeros(live.size)
    workspace[::2] = [float(w[c]) for w, c in zip(memory.workspace_bytes, choice, strict=True)]
    moment = int((live + workspace).argmax())
    return Peak(
        total_bytes=round(live[moment] + workspace[moment] + weights),
        node=problem.nodes[moment // 2].name,
        activation_bytes=round(live[moment]),
        workspace_bytes=round(workspace[moment]),
        weight_bytes=round(weights),
    )


def between(number: np.ndarray, sizes: np.ndarray, produced: int, demanded: set[int], arcs: Sequence[Arc]) -> float:
    """Bytes of the layouts that ``arcs`` make and nobody demands; ``number`` and ``sizes`` are of :func:`storage`."""
    known = {int(number[layout]) for layout in (produced, *demanded)}
    return float(sum(sizes[one] for one in {int(number[made]) for _, made in arcs} - known))


def _live(problem: Problem, memory: Memory, choice: Sequence[int]) -> np.ndarray:
    """Bytes of activations at each moment: ``2n`` is node ``n`` running, ``2n + 1`` the transforms of its output."""
    change = np.zeros(2 * len(problem.nodes) + 1)
    for index, arcs in enumerate(transforms_of_plan(problem, choice)):
        number, sizes = storage(problem, memory, index)
        produced = int(number[problem.nodes[index].out_layout[choice[index]]])
        readers = problem.consumers[index]
        # read in its own layout or in one made of it right away: the produced storage is there after the node too
        ends = {produced: 2 * index + (1 if readers else 0)}
        for _, made in arcs:
            ends.setdefault(int(number[made]), 2 * index + 1)
        for reader, slot in readers:
            read = int(number[problem.nodes[reader].in_layouts[choice[reader], slot]])
            ends[read] = max(ends[read], 2 * memory.held_until[reader])
        for one, end in ends.items():
            start = 2 * index if one == produced else 2 * index + 1
            change[start] += sizes[one]
            change[end + 1] -= sizes[one]
    return np.cumsum(change)[:-1]
