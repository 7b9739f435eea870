"""Softmax: maximum, sum and quotient of a row by one block of threads (TVM's rule for reductions)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import te

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._generic import SameLayout
from te_kernels.cuda.opaque import by_dlight
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import SoftmaxTask


@dataclass(frozen=True)
class CudaSoftmax(SameLayout):
    """Layouts without padding lanes. Knob: the layout."""

    name = "cuda_softmax"
    family = "generic"
    title = "softmax"
    task_type = SoftmaxTask

    @classmethod
    def candidates(cls, task: SoftmaxTask, machine: Gpu) -> Iterator[GpuVariant]:
        """One for each layout that stores nothing but the tensor."""
        for layout in ("NCHW", "NHWC", "plain"):
            if Layout(layout).reason_cannot_hold(task.shape) is None:
                yield cls(layout)

    def prim_func(self, task: SoftmaxTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """Three blocks, joined by the rule."""
        shape = Layout(self.layout).physical_shape(task.shape)
        axis = Layout(self.layout).physical_shape(tuple(range(len(shape)))).index(task.axis)
        data = te.placeholder(shape, machine.dtype, name="data")
        rest = shape[:axis] + shape[axis + 1 :]

        def at(index: tuple[Any, ...], k: Any) -> tuple[Any, ...]:
            return (*index[:axis], k, *index[axis:])

        def without(index: tuple[Any, ...]) -> tuple[Any, ...]:
            return index[:axis] + index[axis + 1 :]

        def element(*index: Any) -> Any:
            return data(*index).astype("float32")

        i, j = te.reduce_axis((0, shape[axis]), name="i"), te.reduce_axis((0, shape[axis]), name="j")
        top = te.compute(rest or (1,), lambda *o: te.max(element(*at(o[: len(rest)], i)), i), name="top")
        above = te.compute(
            rest or (1,), lambda *o: te.sum(te.exp(element(*at(o[: len(rest)], j)) - top(*o)), j), name="sum"
        )
        zero = () if rest else (0,)

        def quotient(*index: Any) -> Any:
            row = without(index) + zero
            return (te.exp(element(*index) - top(*row)) / above(*row)).astype(machine.dtype)

        out = te.compute(shape, quotient, name="out")
        return by_dlight(te.create_prim_func([data, out]), machine)
