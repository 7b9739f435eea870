"""What every choice not taken would cost the whole network: exact regrets.

The regret of a choice is the cost of the cheapest plan that uses it, less the optimum. For a graph that elimination
takes apart, one pass back over the steps prices all choices of all nodes: each step then knows the cheapest whole for
every combination of what its neighbours choose (the junction tree algorithm in (min, +)). Otherwise the problem is
solved again with each combination of layouts of each node pinned.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tvm_globalsel.problem import Infeasible, NodeChoices, Problem, Solution
from tvm_globalsel.solve.branch import MOST_ENTRIES, Search, fix, minimise
from tvm_globalsel.solve.elimination import eliminate, elimination_order
from tvm_globalsel.solve.encode import Encoded, encode
from tvm_globalsel.solve.graph import Graph
from tvm_globalsel.solve.signatures import Signatures

_ROUNDING = 1e-12


def regrets(problem: Problem, solution: Solution, most_entries: int = MOST_ENTRIES) -> list[np.ndarray]:
    """For each node ``(choices,)`` seconds that the best plan with each choice costs more than the best plan of all.

    Infinite for a choice that no plan can use. ``solution`` spares finding the optimum when it has it: a choice of an
    optimal plan has regret 0. ``most_entries`` bounds the tables of elimination. Raises Infeasible without any plan.
    """
    # not without the dominated choices: their regrets are asked for too
    encoded = encode(problem, drop=False)
    totals = _by_elimination(encoded.graph.copy(), most_entries) or _by_pinning(encoded, most_entries)
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


def _by_elimination(graph: Graph, most_entries: int) -> dict[int, np.ndarray] | None:
    """Cost of the best plan for each choice of each node, or None when the graph would need too large tables."""
    order = elimination_order(graph, most_entries)
    if order is None:
        return None
    # not RII, which drops an edge that has become constant: the way back needs its two nodes side by side
    steps = eliminate(graph, order)
    when = {step.node: time for time, step in enumerate(steps)}
    # the neighbours of a step all occur in the table of the first of them to go after it, its parent
    parents = [min((when[other] for other in step.others), default=-1) for step in steps]
    children = Counter(parents)
    totals: dict[int, np.ndarray] = {}
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


def _by_pinning(encoded: Encoded, most_entries: int) -> dict[int, np.ndarray]:
    totals = {}
    for index, signatures in enumerate(encoded.signatures):
        totals[index] = np.full(signatures.choice.size, np.inf)
        for position in range(signatures.choice.size):
            pinned = encoded.graph.copy()
            fix(pinned, index, position, [])
            outcome = minimise(pinned, np.inf, Search(Counter(), most_entries))
            if outcome is not None:
                totals[index][position] = outcome.cost
    return totals
