"""Any other operator: TVM's own lowering under TVM's own rules for GPUs (``s_tir.dlight``).

In half precision the lowering computes in float32 between conversions of its inputs and its output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import dlight

from te_kernels.cuda._base import GpuVariant
from te_kernels.generic.view import row_major
from te_kernels.gpu import FLOAT32, Gpu
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
        return by_dlight(_converted(task, machine.dtype), machine)


def _converted(task: OpaqueTask, dtype: str) -> tvm.tirx.PrimFunc:
    """The lowering with inputs and output of ``dtype`` where it has float32; its constants stay."""
    func = task.lowered
    inner = list(func.params)
    moved = [i for i in range(len(task.shapes)) if task.dtypes[i] == FLOAT32]
    moved += [len(inner) - 1] if task.out_dtype == FLOAT32 else []
    if dtype == FLOAT32 or not moved:
        return func
    outer = {i: tirx.decl_buffer(inner[i].shape, dtype, name=f"stored{i}") for i in moved}
    root = func.body.block
    body = [_copy(f"load{i}", outer[i], inner[i]) for i in moved if i < len(task.shapes)]
    body.append(root.body)
    body += [_copy("store", inner[i], outer[i]) for i in moved if i == len(inner) - 1]
    buffers = [*root.alloc_buffers, *(inner[i] for i in moved)]
    block = s_tir.SBlock([], [], [], "root", tirx.SeqStmt(body), None, buffers)
    params = [outer.get(i, inner[i]) for i in range(len(inner))]
    return tirx.PrimFunc(params, s_tir.SBlockRealize([], tirx.const(True, "bool"), block), func.ret_type, func.attrs)


def _copy(name: str, source: Any, target: Any) -> Any:
    """A block that converts ``source`` to ``target``."""
    loops = [tirx.Var(f"i{axis}", size.ty) for axis, size in enumerate(source.shape)]
    inside = [tirx.Var(f"v{axis}", size.ty) for axis, size in enumerate(source.shape)]
    ranges = [tvm.ir.Range(0, size) for size in source.shape]
    axes = [tirx.IterVar(r, v, tirx.IterVar.DataPar) for r, v in zip(ranges, inside, strict=True)]
    point = [tvm.ir.Range.from_min_extent(v, tirx.const(1, v.ty)) for v in inside]
    store = tirx.BufferStore(target, source[tuple(inside)].astype(str(target.dtype)), inside)
    reads, writes = [tirx.BufferRegion(source, point)], [tirx.BufferRegion(target, point)]
    statement: Any = s_tir.SBlockRealize(
        loops, tirx.const(True, "bool"), s_tir.SBlock(axes, reads, writes, name, store)
    )
    for loop, size in zip(reversed(loops), reversed(list(source.shape)), strict=True):
        statement = tirx.For(loop, tirx.const(0, loop.ty), size, tirx.ForKind.SERIAL, statement)
    return statement


def by_dlight(func: tvm.tirx.PrimFunc, machine: Gpu) -> tvm.tirx.PrimFunc:
    """The function under the first of dlight's rules that takes it."""
    gpu = dlight.gpu
    rules = (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback())
    with machine.target:
        module = dlight.ApplyDefaultSchedule(*rules)(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
    return module["main"].without_attr("tirx.is_scheduled")
