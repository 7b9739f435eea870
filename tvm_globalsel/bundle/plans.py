"""Plans of a packed network from the log that was just measured, on a machine without a compiler."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from te_kernels.gpu import Gpu
from te_kernels.machine import Machine
from te_kernels.task import Task, TransformTask
from te_kernels.variant import Reject, Variant, variants_for
from tvm_globalsel.bundle.manifest import Manifest
from tvm_globalsel.bundle.networks import Packed
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.problem import Infeasible, Problem, Solution
from tvm_globalsel.selection import Selection, build_problem, costs_from_log, interpret
from tvm_globalsel.solve import solve
from tvm_globalsel.solve.restrict import stored_layouts


@dataclass(frozen=True)
class Plan:
    """One way to run the network: ``name`` is ``global``, ``local``, ``single:LAYOUT`` (the best) or ``sum2d``."""

    name: str
    predicted_s: float
    selection: Selection


def plans_of(packed: Packed, manifest: Manifest, log: TuningLog, base: Context) -> list[Plan]:
    """The exact optimum and what others would choose, for a network whose pairs are marked.

    Raises ``UserError`` naming an operator that was not measured.
    """
    context = Context(**{**vars(base), "weights": packed.weights})
    found: dict[str, Candidates] = {}
    moves: dict[str, Candidates] = {}
    kernels: dict[str, list[Variant]] = {}
    tasks = {}
    for kernel in (kernel for library in manifest.libraries for kernel in library.kernels):
        if kernel.weights == context.of(kernel.task).weights:
            kernels.setdefault(kernel.task.key, []).append(kernel.variant)
            tasks[kernel.task.key] = kernel.task
    network = packed.network
    for task in (task for op in network.operators for task in op.tasks):
        known = (*kernels.get(task.key, ()), *_without_kernel(task, manifest.machine_model()))
        found[task.key] = Candidates(task, known, ())
    shapes = set(network.shapes.values())
    for key, task in tasks.items():
        if isinstance(task, TransformTask) and task.shape in shapes:
            moves[key] = Candidates(task, tuple(kernels[key]), ())
    transforms = [task for task in tasks.values() if isinstance(task, TransformTask) and task.key in moves]
    costs = costs_from_log(found, transforms, moves, log, context)
    problem = build_problem(network, costs)
    plans = []
    for name in ("global", "local", "single", "sum2d"):
        best = _solved(problem, name)
        if best is not None:
            solver, solution = best
            plans.append(Plan(solver, solution.cost_s, interpret(network, costs, problem, solution)))
    return plans


def _solved(problem: Problem, name: str) -> tuple[str, Solution] | None:
    names = {"global": ["pbqp"], "single": [f"single:{layout}" for layout in stored_layouts(problem)]}.get(name, [name])
    solutions = []
    for solver in names:
        try:
            solutions.append((solver if name == "single" else name, solve(problem, solver)))
        except Infeasible:
            continue
    return min(solutions, key=lambda item: item[1].cost_s, default=None)


def _without_kernel(task: Task, machine: Machine | Gpu) -> list[Variant]:
    """Views and concatenations in place: nothing to measure, so no bundle holds them."""
    found: list[Variant] = []
    for cls in variants_for(task, machine):
        if cls.needs_no_kernel:
            with contextlib.suppress(Reject):
                found += cls.candidates(task, machine)
    return found
