"""Channel shuffle: every output element finds its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from te_kernels.cuda import _flat
from te_kernels.cuda._base import Arguments
from te_kernels.cuda._generic import SameLayout, vector_of
from te_kernels.gpu import Gpu
from te_kernels.task import ShuffleTask


@dataclass(frozen=True)
class CudaShuffle(SameLayout):
    """Every layout. Knob: the layout."""

    name = "cuda_shuffle"
    family = "generic"
    title = "channel shuffle"
    task_type = ShuffleTask
    relative_error = 0.0

    def prim_func(self, task: ShuffleTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """One thread for each element; maps in vectors where channels are outside."""
        channels, per_group = task.shape[1], task.shape[1] // task.groups

        def value(args: Arguments, n: Any, c: Any, h: Any, w: Any) -> Any:
            c = tirx.min(c, tirx.const(channels - 1, "int32"))  # padding lanes: any finite value
            return args.read(0, n, c % task.groups * per_group + c // task.groups, h, w)

        vector = vector_of(self.layout, task.shape) if self.layout == "NCHW" else 1
        return _flat.prim_func(task, self.layouts(task), machine, value, vector)
