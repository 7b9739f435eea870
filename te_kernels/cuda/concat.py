"""Concatenation along the channels: every output element finds its input."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import tvm
from tvm import tirx

from te_kernels.cuda import _flat
from te_kernels.cuda._base import Arguments
from te_kernels.cuda._generic import SameLayout, vector_of
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import ConcatTask


@dataclass(frozen=True)
class CudaConcat(SameLayout):
    """Every layout. Knob: the layout."""

    name = "cuda_concat"
    family = "generic"
    title = "concatenation of channels"
    task_type = ConcatTask

    def prim_func(self, task: ConcatTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """One thread for each vector; vectors straddle no border between inputs."""
        ends = list(accumulate(task.channels))
        vector = vector_of(self.layout, task.output_shape, *ends)

        def value(args: Arguments, n: Any, c: Any, h: Any, w: Any) -> Any:
            unit = vector if self.layout != "NCHW" else 1
            if Layout(self.layout).block and ends[-1] % Layout(self.layout).block:
                c = tirx.min(c, tirx.const(ends[-1] - 1, "int32"))  # padding lanes: any finite value
                unit = 1
            result = args.read(len(ends) - 1, n, c - (ends[-1] - task.channels[-1]), h, w)
            for which in range(len(ends) - 2, -1, -1):
                inside = tirx.floordiv(c, unit) < ends[which] // unit  # the same for all lanes of a vector
                own = args.read(which, n, c - (ends[which] - task.channels[which]), h, w)
                result = tirx.if_then_else(inside, own, result)
            return result

        return _flat.prim_func(task, self.layouts(task), machine, value, vector)
