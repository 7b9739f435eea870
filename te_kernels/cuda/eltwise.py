"""Elementwise operators: nothing but an epilogue, on whatever layout the tensor is in; 16 bytes a thread."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from te_kernels.cuda import _flat
from te_kernels.cuda._generic import SameLayout, vector_of
from te_kernels.gpu import Gpu
from te_kernels.task import EltwiseTask


@dataclass(frozen=True)
class CudaEltwise(SameLayout):
    """Every layout. Knob: the layout."""

    name = "cuda_eltwise"
    family = "generic"
    title = "elementwise"
    task_type = EltwiseTask

    def prim_func(self, task: EltwiseTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """One thread for each vector."""
        vector = vector_of(self.layout, task.shape)
        return _flat.prim_func(task, self.layouts(task), machine, lambda args, *i: args.read(0, *i), vector)
