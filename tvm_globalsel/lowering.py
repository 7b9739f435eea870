"""The selected plan as scheduled kernels that fit into the memory that was allowed."""

from __future__ import annotations

import dataclasses

import tvm

from te_kernels.gpu import Gpu
from tvm_globalsel.demands import account, answer
from tvm_globalsel.dump import Dump
from tvm_globalsel.memory_plan import arena_bytes
from tvm_globalsel.rewrite import KernelNames, lower_transforms, rewrite
from tvm_globalsel.selected import Selected
from tvm_globalsel.selection import interpret


def lower(selected: Selected, dump: Dump | None = None) -> tvm.IRModule:
    """The selected plan as Relax with scheduled kernels only."""
    dump = dump or Dump(None)
    rewritten = rewrite(selected.network, selected.selection, selected.machine)
    dump.module("4-rewritten", rewritten)
    lowered = lower_transforms(rewritten, lambda task: selected.costs.transforms[task.key].variant, selected.machine)
    dump.module("5-lowered", lowered)
    return lowered


def fit(selected: Selected, dump: Dump | None = None) -> tuple[Selected, tvm.IRModule]:
    """The lowered plan, under ``--max-memory`` another one should addresses need more than what the model counts.

    The selection counts what is live. Memory that is made early for a concatenation in place, or lost between
    neighbours of unequal size, is known when there are addresses: the excess then tightens the limit.
    """
    if isinstance(selected.machine, Gpu):
        lowered = lower(selected, dump)  # TVM's planner lays memory out, inside of the captured graph
        return dataclasses.replace(selected, kernels=KernelNames(lowered)), lowered
    limit = selected.demands.max_memory_bytes
    tightened = selected.demands
    while True:
        lowered = lower(selected, dump)
        problem, solution = selected.selection.problem, selected.selection.solution
        arena = arena_bytes(lowered)
        excess = 0
        if limit is not None:
            peak = account(selected.network, selected.costs, problem, solution).peak(solution)
            excess = arena + peak.workspace_bytes + peak.weight_bytes - limit
        if excess <= 0 or tightened.max_memory_bytes is None:
            return dataclasses.replace(selected, arena_bytes=arena, kernels=KernelNames(lowered)), lowered
        tightened = dataclasses.replace(tightened, max_memory_bytes=tightened.max_memory_bytes - excess)
        solution = answer(selected.network, selected.costs, problem, tightened, selected.solver)
        again = interpret(selected.network, selected.costs, problem, solution)
        selected = dataclasses.replace(selected, selection=again)
