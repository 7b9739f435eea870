"""What every choice not taken would cost the whole network: exact regrets.

The regret of a choice is the cost of the cheapest plan that uses it, less the optimum. For a graph that elimination
takes apart, one pass back over the steps prices all choices of all nodes: each step then knows the cheapest whole for
every combination of what its neighbours choose (the junction tree algorithm in (min, +)). A graph that is too densely
knit for that is first taken apart where single nodes hold it together, and its parts tell each other in the same two
passes what their common node's choices cost. Only inside of a part that still is too dense, the part is solved again
with each choice pinned.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, Solution
from tvm_globalsel.solve import branch
from tvm_globalsel.solve.branch import Search, fix, minimise
from tvm_globalsel.solve.elimination import eliminate, patient_order
from tvm_globalsel.solve.encode import encode
from tvm_globalsel.solve.graph import Graph
from tvm_globalsel.solve.pieces import biconnected_components
from tvm_globalsel.solve.signatures import Signatures

_ROUNDING = 1e-12
#: Entries of the largest table that elimination may make here: 128 MiB of costs, where the way out is a solve for each
#: choice of a part.
MOST_ENTRIES = 1 << 24

Totals = dict[int, np.ndarray]


def regrets(problem: Problem, solution: Solution, most_entries: int = MOST_ENTRIES) -> list[np.ndarray]:
    """For each node ``(choices,)`` seconds that the best plan with each choice costs more than the best plan of all.

    Infinite for a choice that no plan can use. ``solution`` spares finding the optimum when it has it: a choice of an
    optimal plan has regret 0. ``most_entries`` bounds the tables of elimination. Raises Infeasible without any plan.
    """
    # not without the dominated choices: their regrets are asked for too
    encoded = encode(problem, drop=False)
    operators = set(range(len(encoded.signatures)))
    # large tables only where they stay within a part
    totals = _by_elimination(encoded.graph.copy(), min(most_entries, branch.MOST_ENTRIES))
    totals = totals or _by_parts(encoded.graph, operators, most_entries)
    optimum = min(float(totals[0].min()), solution.cost_s) if totals else 0.0
    if optimum == np.inf:
        raise Infeasible("no plan has a finite cost, so that no choice has a regret")
    result = []
    for index, (node, signatures) in enumerate(zip(problem.nodes, encoded.signatures, strict=True)):
        regret = _of_choices(node, signatures, totals[index]) - optimum
        regret[regret < _ROUNDING * optimum] = 0.0
        if solution.optimal:
            regret[solution.choice[index]] = 0.0
        result.append(regret)
    return result


def _of_choices(node: NodeChoices, signatures: Signatures, totals: np.ndarray) -> np.ndarray:
    """Cost of the best plan with each choice, from that with the cheapest choice for the same layouts."""
    known = signatures.of_choice >= 0
    cheapest = signatures.of_choice[known]
    result = np.full(node.size, np.inf)
    result[known] = totals[cheapest] + (node.costs_s[known] - signatures.costs_s[cheapest])
    return result


def _by_elimination(graph: Graph, most_entries: int) -> Totals | None:
    """Cost of the best plan for each choice of each node, or None when the graph would need too large tables."""
    order = patient_order(graph, most_entries)
    if order is None:
        return None
    # not RII, which drops an edge that has become constant: the way back needs its two nodes side by side
    steps = eliminate(graph, order)
    if not np.isfinite(graph.constant):
        return {step.node: np.full(step.joint().shape[0], np.inf) for step in steps}
    when = {step.node: time for time, step in enumerate(steps)}
    # the neighbours of a step all occur in the table of the first of them to go after it, its parent
    parents = [min((when[other] for other in step.others), default=-1) for step in steps]
    children = Counter(parents)
    totals: Totals = {}
    tables: dict[int, np.ndarray] = {}
    for time in range(len(steps) - 1, -1, -1):
        step, parent = steps[time], parents[time]
        joint = step.joint()
        if parent < 0:
            joint = joint + (graph.constant - float(joint.min()))
        else:
            rest = _over(tables[parent], (steps[parent].node, *steps[parent].others), step.others)
            folded = joint.min(0)
            # what the whole costs without this step; where the step is impossible, so is the whole
            possible = np.isfinite(folded)
            joint = joint + np.where(possible, rest - np.where(possible, folded, 0.0), np.inf)
            children[parent] -= 1
            if not children[parent]:
                del tables[parent]
        if children[time]:
            tables[time] = joint
        totals[step.node] = joint.min(axis=tuple(range(1, joint.ndim)))
    return totals


def _over(table: np.ndarray, scope: tuple[int, ...], wanted: tuple[int, ...]) -> np.ndarray:
    """The least of ``table`` over all nodes of its scope that are not ``wanted``, with the axes of ``wanted``."""
    least = table.min(axis=tuple(axis for axis, node in enumerate(scope) if node not in wanted))
    left = [node for node in scope if node in wanted]
    return np.asarray(least.transpose([left.index(node) for node in wanted]))


@dataclass(frozen=True)
class _Part:
    """A biconnected part. ``link`` is the node by which it hangs on parts that come later, None for the last ones.

    ``costs`` are those of the best assignment of the part and of all that hangs on it, for each choice of the link,
    the link's own costs excluded.
    """

    graph: Graph
    link: int | None
    costs: np.ndarray


def _by_parts(graph: Graph, wanted: set[int], most_entries: int) -> Totals:
    """Cost of the best plan for each choice of the nodes ``wanted`` of any graph."""
    components = biconnected_components(graph)
    # a component comes after all that hang on it, so that it shares at most one node with later ones
    last = {node: number for number, component in enumerate(components) for node in component}
    costs = dict(graph.costs)
    parts = []
    for number, component in enumerate(components):
        part = graph.subgraph(component)
        part.costs = {node: costs[node] for node in component}
        link = next((node for node in component if last[node] > number), None)
        below = np.zeros(0)
        if link is not None:
            part.costs[link] = np.zeros_like(costs[link])
            below = _marginals(part, {link}, most_entries)[link]
            costs[link] = costs[link] + below
        parts.append(_Part(part, link, below))
    return _back(parts, wanted, {part.link for part in parts if part.link is not None}, graph.constant, most_entries)


def _back(parts: list[_Part], wanted: set[int], links: set[int], constant: float, most_entries: int) -> Totals:
    """From the last parts to the first, each told by the later ones what the choices of its link cost elsewhere."""
    totals: Totals = {}
    roots: list[tuple[set[int], float]] = []  # nodes that have nothing to do with those of other roots, their optimum
    root_of: dict[int, int] = {}
    for part in reversed(parts):
        part_of_root = len(roots) if part.link is None else root_of[part.link]
        if part.link is not None:
            known = totals[part.link]
            possible = np.isfinite(known)
            rest = np.where(possible, known - np.where(possible, part.costs, 0.0), np.inf)
            part.graph.costs[part.link] = rest
        found = _marginals(part.graph, (wanted | links) & set(part.graph.costs), most_entries)
        if part.link is None:
            optimum = min((float(values.min()) for values in found.values()), default=0.0)
            roots.append((set(), optimum))
        roots[part_of_root][0].update(part.graph.costs)
        root_of |= dict.fromkeys(part.graph.costs, part_of_root)
        totals |= found
    whole = constant + sum(optimum for _, optimum in roots)
    for nodes, optimum in roots:
        elsewhere = whole - optimum if np.isfinite(whole) else np.inf
        for node in nodes & set(totals):
            totals[node] = totals[node] + elsewhere
    return {node: totals[node] for node in wanted}


def _marginals(graph: Graph, wanted: set[int], most_entries: int) -> Totals:
    """Cost of the best assignment of a graph for each choice of the nodes wanted."""
    found = _by_elimination(graph.copy(), most_entries)
    return found if found is not None else _by_pinning(graph, wanted, most_entries)


def _by_pinning(graph: Graph, wanted: set[int], most_entries: int) -> Totals:
    totals = {}
    for node in wanted:
        totals[node] = np.full(graph.costs[node].size, np.inf)
        for choice in range(totals[node].size):
            pinned = graph.copy()
            fix(pinned, node, choice, [])
            outcome = minimise(pinned, np.inf, Search(Counter(), min(most_entries, branch.MOST_ENTRIES)))
            if outcome is not None:
                totals[node][choice] = outcome.cost
    return totals
