"""Any other operator: TVM's own lowering under a generic schedule.

The lowering is a PrimFunc with blocks of any number and kind. Every step that the scheduler refuses is skipped, so what
comes out is at worst the lowering itself:

    inline every block that has one consumer and needs no reduction
    for each remaining block:
      move reductions outside the innermost spatial loop, when its elements are whole vectors
      fuse the other leading spatial loops and run them in parallel
      vectorise the innermost loop

The second candidate is the untouched lowering: some lowerings schedule but do not build, and for tiny tensors naive
loops are the fastest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.schedule import ScheduleError

from te_kernels.generic.view import row_major
from te_kernels.machine import Machine
from te_kernels.task import OpaqueTask
from te_kernels.variant import Layouts, Variant

#: What a refused primitive raises: the scheduler's own error, or TVM's when it meets IR it does not expect.
_REFUSALS = (ScheduleError, ValueError, TypeError, tvm.error.InternalError)
#: Iterations below which waking the other threads costs more than they save.
_PARALLEL_ITERATIONS = 16 << 10


@dataclass(frozen=True)
class Opaque(Variant):
    """Row-major in and out. Knob: whether the lowering is scheduled or left alone."""

    name = "opaque"
    family = "generic"
    title = "TVM's own lowering, scheduled generically"
    task_type = OpaqueTask

    scheduled: bool

    @classmethod
    def candidates(cls, task: OpaqueTask, machine: Machine) -> Iterator[Variant]:
        """Scheduled and untouched."""
        yield cls(True)
        yield cls(False)

    def layouts(self, task: OpaqueTask) -> Layouts:
        """Row-major everywhere."""
        return Layouts(tuple(row_major(shape) for shape in task.input_shapes), row_major(task.output_shape))

    def prim_func(self, task: OpaqueTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """The scheduled lowering; raises ValueError when the task carries none."""
        if task.lowered is None:
            raise ValueError(f"the task {task.text!r} carries no lowering; extract it from its model again")
        if not self.scheduled:
            return task.lowered
        return scheduled(task.lowered, machine)


def scheduled(func: tvm.tirx.PrimFunc, machine: Machine) -> tvm.tirx.PrimFunc:
    """``func`` under the generic schedule, or ``func`` itself where it has no blocks to schedule."""
    try:
        sch = s_tir.Schedule(tvm.IRModule({"main": func.without_attr("global_symbol")}))
        root = sch.get_sblock("root")
        names = [sch.get(block).name_hint for block in sch.get_child_blocks(root)]
    except _REFUSALS:
        return func
    for name in [name for name in names if not _inlined(sch, name)]:
        # each block is scheduled on a copy, so that a refusal half way leaves nothing half done
        attempt = sch.copy()
        with suppress(*_REFUSALS):
            _schedule_block(attempt, name, machine)
            sch = attempt
    result = sch.mod["main"]
    symbol = func.attrs.get("global_symbol") if func.attrs else None
    return result.with_attr("global_symbol", symbol) if symbol else result


def _inlined(sch: Any, name: str) -> bool:
    block = sch.get_sblock(name)
    try:
        if len(sch.get_consumers(block)) != 1:
            return False
        sch.compute_inline(block)
    except _REFUSALS:
        return False
    return True


def _schedule_block(sch: Any, name: str, machine: Machine) -> None:
    block = sch.get_sblock(name)
    loops = sch.get_loops(block)
    if not loops:
        return
    kinds = _kinds(sch, loops)
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "spatial"]
    reductions = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "reduction"]
    if not spatial or len(spatial) + len(reductions) < len(loops):
        return
    extents = [int(sch.get(loop).extent) for loop in spatial]
    threads = machine.threads > 1 and prod(int(sch.get(loop).extent) for loop in loops) >= _PARALLEL_ITERATIONS
    inner, lanes = spatial[-1], _lanes(extents[-1], machine)
    outer = spatial[:-1]
    if lanes == 1 and not reductions:
        # the rows are ragged, but all elements together may still be whole vectors
        lanes = _lanes(prod(extents), machine)
        inner, outer = sch.fuse(*spatial), []
    if lanes > 1:
        rest, inner = sch.split(inner, [None, lanes])
        outer = [*outer, rest]
    sch.reorder(*outer, *reductions, inner) if lanes > 1 else sch.reorder(*outer, inner, *reductions)
    if not outer and lanes == 1:
        outer = [inner]
    if outer:
        fused = sch.fuse(*outer)
        if threads:
            sch.parallel(fused)
    if lanes > 1:
        sch.vectorize(inner)
    if reductions:
        sch.decompose_reduction(block, reductions[0])


def _lanes(extent: int, machine: Machine) -> int:
    """The widest vector that divides ``extent``, 1 if none of at least 4 lanes does."""
    lanes = machine.vector_lanes
    while lanes >= 4:
        if extent % lanes == 0:
            return lanes
        lanes //= 2
    return 1


def _kinds(sch: Any, loops: list[Any]) -> list[str]:
    """What each loop of a block drives: one ``spatial`` or ``reduction`` iterator and nothing else, or ``other``."""
    realize = sch.get(loops[-1]).body
    if not isinstance(realize, s_tir.SBlockRealize):
        return ["other"] * len(loops)
    pairs = list(zip(realize.block.iter_vars, realize.iter_values, strict=True))
    names = {tirx.IterVar.DataPar: "spatial", tirx.IterVar.CommReduce: "reduction"}
    kinds = []
    for loop in loops:
        variable = sch.get(loop).loop_var
        direct = [names.get(int(iterator.iter_type), "other") for iterator, value in pairs if value.same_as(variable)]
        kinds.append(direct[0] if len(direct) == 1 else "other")
    return kinds
