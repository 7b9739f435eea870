"""Any other operator: TVM's own lowering under TVM's own rules for GPUs (``s_tir.dlight``).

In half precision the lowering computes in float32 between conversions of its inputs and its output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm
from tvm.s_tir import dlight

from te_kernels.cuda._base import GpuVariant
from te_kernels.generic.view import row_major
from te_kernels.gpu import Gpu
from te_kernels.task import OpaqueTask
from te_kernels.variant import Layouts


@dataclass(frozen=True)
class CudaOpaque(GpuVariant):
    """Row-major in and out. No knobs."""

    name = "cuda_opaque"
    family = "generic"
    title = "TVM's own lowering and GPU rules"
    task_type = OpaqueTask

    @classmethod
    def candidates(cls, task: OpaqueTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The one instance."""
        yield cls()

    def layouts(self, task: OpaqueTask) -> Layouts:
        """Row-major everywhere."""
        return Layouts(tuple(row_major(shape) for shape in task.input_shapes), row_major(task.output_shape))

    def prim_func(self, task: OpaqueTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The scheduled lowering; raises ValueError when the task carries none."""
        if task.lowered is None:
            raise ValueError(f"the task {task.text!r} carries no lowering; extract it from its model again")
        return by_dlight(task.lowered, machine)


def by_dlight(func: tvm.tirx.PrimFunc, machine: Gpu) -> tvm.tirx.PrimFunc:
    """The function under the first of dlight's rules that takes it."""
    gpu = dlight.gpu
    rules = (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback())
    with machine.target:
        module = dlight.ApplyDefaultSchedule(*rules)(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
    return module["main"].without_attr("tirx.is_scheduled")
