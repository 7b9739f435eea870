"""Pooling by windows: one thread for each output (16 bytes of channels where they are innermost)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import te, tirx

from te_kernels.cuda import _flat
from te_kernels.cuda._base import Arguments
from te_kernels.cuda._generic import SameLayout, vector_of
from te_kernels.gpu import Gpu
from te_kernels.task import PoolTask

LOWEST = -3.4028234e38


@dataclass(frozen=True)
class CudaPool(SameLayout):
    """Every layout. Knob: the layout."""

    name = "cuda_pool"
    family = "pool"
    title = "pooling by windows"
    task_type = PoolTask

    def prim_func(self, task: PoolTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """One thread for each vector of outputs."""
        (top, left, _, _), (sh, sw), (dh, dw) = task.pad, task.stride, task.dilation
        start = LOWEST if task.mode == "max" else 0.0
        down = _Axis(task.h, task.oh, task.r, sh, dh, top)
        right = _Axis(task.w, task.ow, task.s, sw, dw, left)

        def term(args: Arguments, index: tuple[Any, ...], i: Any, j: Any) -> Any:
            n, c, h, w = index
            y, x = h * sh + i * dh - top, w * sw + j * dw - left
            conditions = down.inside(y) + right.inside(x)
            value = args.read(0, n, c, y, x)
            outside = tirx.const(start, "float32")
            return tirx.if_then_else(tirx.all(*conditions), value, outside) if conditions else value

        def finish(args: Arguments, acc: Any, index: tuple[Any, ...]) -> Any:
            if task.mode == "max":
                return acc
            if task.divisor == "window" or not (down.clipped or right.clipped):
                return acc * tirx.const(1.0 / (task.r * task.s), "float32")
            _, _, h, w = index
            return acc / (down.count(h) * right.count(w)).astype("float32")

        combine = te.max if task.mode == "max" else lambda a, b: a + b
        vector = vector_of(self.layout, task.output_shape) if self.layout != "NCHW" else 1
        reduction = _flat.Reduction((task.r, task.s), start, combine, term, finish)
        return _flat.prim_func(task, self.layouts(task), machine, reduction, vector)


@dataclass(frozen=True)
class _Axis:
    """One axis of the windows."""

    size: int
    outputs: int
    window: int
    stride: int
    dilation: int
    before: int

    @property
    def clipped(self) -> bool:
        """Whether any window reaches beyond the input."""
        last = (self.outputs - 1) * self.stride + (self.window - 1) * self.dilation - self.before
        return self.before > 0 or last >= self.size

    def inside(self, at: Any) -> list[Any]:
        """Conditions under which a position exists."""
        return [at >= 0, at < self.size] if self.clipped else []

    def count(self, position: Any) -> Any:
        """Elements of a window that exist."""
        total: Any = tirx.const(0, "int32")
        for i in range(self.window):
            at = position * self.stride + (i * self.dilation - self.before)
            total = total + tirx.Cast("int32", tirx.all(at >= 0, at < self.size))
        return total
