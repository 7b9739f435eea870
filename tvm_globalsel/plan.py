"""``plan.json``: what was decided, what it was decided from, and the proof. Plain data; nothing in it is executed."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from te_kernels.generic.view import row_major
from te_kernels.gpu import dtype_of
from tvm_globalsel import __version__
from tvm_globalsel.artefacts import PLAN_FORMAT
from tvm_globalsel.choices import Deferred, absorbed, layouts_of, task_of
from tvm_globalsel.demands import account
from tvm_globalsel.problem import Infeasible, Problem, Solution
from tvm_globalsel.solve import solve
from tvm_globalsel.solve.frugal import Frugal
from tvm_globalsel.solve.regret import regrets
from tvm_globalsel.solve.restrict import stored_layouts

if TYPE_CHECKING:
    from te_kernels.variant import Variant
    from tvm_globalsel.graph import Operator
    from tvm_globalsel.search.loop import Found
    from tvm_globalsel.selected import Selected
    from tvm_globalsel.selection import Transform


def make_plan(
    selected: Selected, model: str, input_names: list[str], output_names: list[str], seed_weights: int | None = None
) -> dict[str, Any]:
    """The plan as JSON data. Times are in seconds; null stands for "not measured" or "impossible"."""
    network, selection = selected.network, selected.selection
    problem, solution = selection.problem, selection.solution
    # under limits the regrets are those of the network without them, whose optimum is another plan
    optimal = solution.optimal and not selected.demands.limited
    every_regret = regrets(problem, dataclasses.replace(solution, optimal=optimal))
    needs = account(network, selected.costs, problem, solution)
    first = len(network.inputs)
    shapes = network.shapes
    return {
        "format": PLAN_FORMAT,
        "model": model,
        "seed_weights": seed_weights,
        "target": json.loads(str(selected.target)),
        "device": selected.context.device,
        "threads": selected.context.threads,
        "versions": {"tvm": selected.context.tvm, "tvm_globalsel": __version__},
        "inputs": [
            {"name": name, "shape": list(value.shape), "dtype": value.dtype}
            for name, value in zip(input_names or [v.name for v in network.inputs], network.inputs, strict=True)
        ],
        "outputs": [
            {"name": name, "shape": list(shapes[value])}
            for name, value in zip(output_names or list(network.outputs), network.outputs, strict=True)
        ],
        "precision": dtype_of(selected.machine),
        "costs": cost_basis(selected),
        "inside": inside_statement(selected),
        "certificate": certificate(solution),
        "constraints": selected.demands.to_dict(),
        "peak_memory": {**dataclasses.asdict(needs.peak(solution)), "arena_bytes": selected.arena_bytes},
        "slack": slack_statement(solution),
        "accumulated_error": needs.error(solution),
        "predicted_s": {"selected": _number(solution.cost_s), **baselines(problem)},
        "tuning": {
            "measured": selected.tuning.measured, "from_log": selected.tuning.known, "failed": selected.tuning.failed,
            "out_of_time": selected.tuning.skipped, "seconds": round(selected.tuning.seconds, 2),
        },
        "search": search_statement(selected.search),
        "nodes": [_node(selected, index, every_regret[first + index]) for index in range(len(network.operators))],
        "transforms": [
            {
                "value": t.value, "from": t.task.source, "to": t.task.destination, "shape": list(t.task.shape),
                "cost_s": t.cost_s, "variant": t.variant.label if t.variant else None,
                "kernel": selected.kernel(t.task, t.variant) if t.variant else None,
                "for": _readers(selected, t),
            }
            for t in selection.transforms
        ],
    }  # fmt: skip


def cost_basis(selected: Selected) -> str:
    """Where the times of a plan come from: "measured", "predicted by a model", or both."""
    found = selected.costs
    predicted = [m.predicted for every in found.choices.values() for m in every]
    predicted += [m.predicted for m in found.transforms.values()]
    if not any(predicted):
        return "measured"
    known = any(m.record is not None for every in found.choices.values() for m in every)
    return "partly measured, partly predicted by a model" if known else "predicted by a model, nothing was measured"


def inside_statement(selected: Selected) -> dict[str, int]:
    """How many of the plan's kernels are priced by what they took inside of a network."""
    kernels = selected.kernels_run
    return {"kernels": len(kernels), "measured_inside": sum(measured.inside for _, measured in kernels)}


def search_statement(found: Found | None) -> dict[str, Any] | None:
    """What the candidates that were not measured could still change; None when all were to be measured."""
    if found is None:
        return None
    return {
        "candidates": found.candidates, "unmeasured": found.unmeasured, "rounds": found.rounds,
        "proven_gap": found.proven_gap, "estimated_gap": found.estimated_gap,
    }  # fmt: skip


def _readers(selected: Selected, transform: Transform) -> list[str]:
    """Who needs a transform's result: operators, the network's output, or the next transform of a chain."""
    network, wanted, variants = selected.network, transform.task.destination, selected.selection.variants
    readers = [
        op.name
        for op in network.operators
        for name, layout in zip(op.inputs, layouts_of(op, variants[op.name].variant).inputs, strict=True)
        if name == transform.value and layout == wanted
    ]
    if transform.value in network.outputs and wanted == row_major(transform.task.shape):
        readers.append("the network's output")
    readers += [
        f"the transform to {other.task.destination}"
        for other in selected.selection.transforms
        if other.value == transform.value and other.task.source == wanted
    ]
    return list(dict.fromkeys(readers))


def certificate(solution: Solution) -> dict[str, Any]:
    """The solver's own statement."""
    return {
        "solver": solution.solver,
        "cost_s": solution.cost_s,
        "lower_bound_s": _number(solution.lower_bound_s),
        "gap": _number(solution.gap),
        "optimal": solution.optimal,
        "seconds": round(solution.seconds, 4),
        "reductions": dict(solution.reductions),
    }


def slack_statement(solution: Solution) -> dict[str, float] | None:
    """What the weights need in place of the fastest plan's; None where no time was to be spent on that."""
    if not isinstance(solution, Frugal):
        return None
    return {
        "fastest_s": solution.lower_bound_s, "fastest_weight_bytes": solution.fastest_weight_bytes,
        "weight_bytes": solution.weight_bytes, "least_weight_bytes": solution.least_weight_bytes,
    }  # fmt: skip


def baselines(problem: Problem) -> dict[str, float | None]:
    """Predicted seconds of the plans that others would choose; null where such a plan does not exist."""
    totals: dict[str, float | None] = {}
    for solver in ("pbqp", "local", "greedy", *(f"single:{name}" for name in stored_layouts(problem)), "sum2d"):
        try:
            cost = solve(problem, solver).cost_s
        except Infeasible:
            cost = math.inf
        totals["global" if solver == "pbqp" else solver] = _number(cost)
    if not _sum2d_is_complete(problem):
        totals["sum2d"] = None
    return totals


def _sum2d_is_complete(problem: Problem) -> bool:
    """Whether every node that has the textbook variant has it measured."""
    for node in problem.nodes:
        mask = np.array([family == "sum2d" for family in node.families])
        if mask.any() and not np.isfinite(node.costs_s[mask]).any():
            return False
    return True


def _node(selected: Selected, index: int, regret_s: np.ndarray) -> dict[str, Any]:
    op = selected.network.operators[index]
    chosen = selected.selection.variants[op.name]
    task, layouts = task_of(op, chosen.variant), layouts_of(op, chosen.variant)
    before = absorbed(op, chosen.variant)
    alternatives = []
    for measured, regret in zip(selected.costs.of(op), regret_s, strict=True):
        if measured.variant == chosen.variant:
            continue
        other = layouts_of(op, measured.variant)
        alternatives.append(
            {
                "variant": measured.variant.name,
                "knobs": measured.variant.knobs,
                "gflop": _gflop(op, measured.variant),
                "in": list(other.inputs),
                "out": other.output,
                "cost_s": _number(measured.cost_s),
                "regret_s": _number(float(regret)),
                "status": measured.status,
            }
        )
    alternatives.sort(key=lambda a: (a["regret_s"] is None, a["regret_s"] or 0.0))
    record = chosen.record
    return {
        "name": op.name, "task": op.task.to_dict(), "inputs": list(op.inputs),
        "variant": chosen.variant.name, "family": chosen.variant.family, "knobs": chosen.variant.knobs,
        "in": list(layouts.inputs), "out": layouts.output, "cost_s": chosen.cost_s,
        "with": before.name if before else None,
        "kernel": selected.kernel(task, chosen.variant),
        "relative_error": record.relative_error if record else None,
        "workspace_bytes": chosen.variant.workspace_bytes(task, selected.costs.threads),
        "gflop": _gflop(op, chosen.variant),
        "alternatives": alternatives,
        "rejected": [
            {"variant": name, "reason": reason}
            for tried in op.tasks
            for name, reason in selected.rejections[tried.key]
        ],
    }  # fmt: skip


def _gflop(op: Operator, variant: Variant) -> float:
    """Of the textbook algorithm, by what runs when the operator does; nothing runs for a deferred one."""
    return 0.0 if isinstance(variant, Deferred) else task_of(op, variant).flops / 1e9


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
