"""Conversion at the border of a float16 network: the caller's row-major float32 to any layout inside, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.cuda._base import GpuVariant, padded_channels
from te_kernels.cuda._builder import block
from te_kernels.generic.view import row_major
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.layout import Layout
from te_kernels.task import CastTask
from te_kernels.variant import Layouts

_THREADS = 128


@dataclass(frozen=True)
class CudaCast(GpuVariant):
    """Knob: the layout inside of the network."""

    name = "cuda_cast"
    family = "generic"
    title = "conversion at the network's border, with its change of layout"
    task_type = CastTask
    relative_error = 1e-3

    layout: str

    @classmethod
    def candidates(cls, task: CastTask, machine: Gpu) -> Iterator[GpuVariant]:
        """One for each layout."""
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.shape) is None:
                yield cls(layout)

    def layouts(self, task: CastTask) -> Layouts:
        """The caller's side is row-major."""
        outside = row_major(task.shape)
        return Layouts((outside,), self.layout) if task.source == FLOAT32 else Layouts((self.layout,), outside)

    def prim_func(self, task: CastTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """A thread for each stored element."""
        layouts = self.layouts(task)
        before, after = Layout(layouts.inputs[0]), Layout(layouts.output)
        stored = after.physical_shape(task.shape)
        padded = len(task.shape) == 4 and padded_channels(layouts.output, task.shape[1]) != task.shape[1]
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            data = T.arg("data", T.buffer(before.physical_shape(task.shape), task.source))
            out = T.arg("out", T.buffer(stored, task.dtype))
            with block("out", *(stored or (1,))) as axes:
                axes = axes[: len(stored)]
                index = after.logical_index(*axes)
                value = data[before.physical_index(*index)].astype(task.dtype)
                if padded:
                    value = tirx.if_then_else(index[1] < task.shape[1], value, tirx.const(0.0, task.dtype))
                T.buffer_store(out, value, list(axes))
        sch = tvm.s_tir.Schedule(builder.get())
        blocks, threads = sch.split(sch.fuse(*sch.get_loops(sch.get_sblock("out"))), [None, _THREADS])
        sch.bind(blocks, "blockIdx.x")
        sch.bind(threads, "threadIdx.x")
        return sch.mod["main"]
