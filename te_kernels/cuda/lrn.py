"""Local response normalisation across channels: one thread for each element reads its window of channels.

The windows of neighbouring threads overlap almost wholly, so what a thread reads again is in L1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from te_kernels import vector_math
from te_kernels.cuda import _flat
from te_kernels.cuda._base import Arguments
from te_kernels.cuda._generic import SameLayout
from te_kernels.gpu import Gpu
from te_kernels.task import LrnTask


@dataclass(frozen=True)
class CudaLrn(SameLayout):
    """Every layout. Knob: the layout."""

    name = "cuda_lrn"
    family = "generic"
    title = "local response normalisation"
    task_type = LrnTask

    def prim_func(self, task: LrnTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """One thread for each element; the sum of squares in registers."""
        channels, before = task.shape[1], (task.size - 1) // 2

        def term(args: Arguments, index: tuple[Any, ...], i: Any) -> Any:
            n, c, h, w = index
            at = c + i - before
            value = args.read(0, n, tirx.max(0, tirx.min(at, channels - 1)), h, w)
            return tirx.if_then_else(tirx.all(at >= 0, at < channels), value * value, tirx.const(0.0, "float32"))

        def finish(args: Arguments, total: Any, index: tuple[Any, ...]) -> Any:
            scale = tirx.const(task.alpha / task.size, "float32")
            norm = total * scale + tirx.const(task.bias, "float32")
            n, c, h, w = index
            return args.read(0, n, tirx.min(c, channels - 1), h, w) * vector_math.power(norm, -task.beta)

        reduction = _flat.Reduction((task.size,), 0.0, lambda acc, value: acc + value, term, finish)
        return _flat.prim_func(task, self.layouts(task), machine, reduction)
