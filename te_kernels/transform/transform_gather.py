"""Any layout transform, element by element: the fallback for shapes that the register transposes refuse.

    for every stored destination element:               outer loops parallel, innermost vectorised
      out[...] = data[...] or 0 in the padding

Stores are contiguous vectors; loads are gathers, so this runs at 10 to 20 GB/s (2 on ragged blocks); it is offered only
where the other two do not apply: maps of 1 to 3 pixels, between two blocked layouts, odd blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import te, tirx

from te_kernels.generic import _tir
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import TransformTask
from te_kernels.transform.transform_copy import TransformCopy
from te_kernels.transform.transform_tiled import TransformTiled
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class TransformGather(Variant):
    """Pairs of layouts that no other variant takes. No knobs."""

    name = "transform_gather"
    family = "transform"
    title = "layout transform, element by element"
    task_type = TransformTask
    relative_error = 0.0

    @classmethod
    def candidates(cls, task: TransformTask, machine: Machine) -> Iterator[Variant]:
        """The one instance."""
        for layout in (task.source, task.destination):
            reason = Layout(layout).reason_cannot_hold(task.shape)
            if reason:
                raise Reject(reason)
        for faster in (TransformTiled, TransformCopy):
            if _applies(faster, task, machine):
                raise Reject(f"{faster.name} moves whole vectors of this pair of layouts")
        yield cls()

    def layouts(self, task: TransformTask) -> Layouts:
        """The task's own."""
        return Layouts((task.source,), task.destination)

    def prim_func(self, task: TransformTask, machine: Machine) -> tvm.tirx.PrimFunc:
        """Algorithm and schedule."""
        source, destination = Layout(task.source), Layout(task.destination)
        data = te.placeholder(source.physical_shape(task.shape), "float32", name="data")
        channels = task.shape[1]
        padded = destination.block > 0 and channels % destination.block > 0

        def element(*axes: Any) -> Any:
            index = destination.logical_index(*axes)
            value = data[source.physical_index(*index)]
            return tirx.if_then_else(index[1] < channels, value, tirx.const(0.0, "float32")) if padded else value

        out = te.compute(destination.physical_shape(task.shape), element, name="out")
        sch = tvm.s_tir.Schedule(te.create_prim_func([data, out]))
        *outer, inner = sch.get_loops(sch.get_sblock("out"))
        fused = sch.fuse(*outer)
        if _tir.worth_threads(task, machine):
            sch.parallel(fused)
        if not padded:
            _, lanes = sch.split(inner, [None, machine.vector_lanes])
            sch.vectorize(lanes)
        return sch.mod["main"]


def _applies(variant: type[Variant], task: TransformTask, machine: Machine) -> bool:
    try:
        return any(True for _ in variant.candidates(task, machine))
    except Reject:
        return False
