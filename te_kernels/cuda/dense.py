"""Fully connected layers of small batches: a block of threads for each output streams one row of weights.

    for k, row of the batch:                              blockIdx
      for f in threads x 16 bytes:                        threadIdx, summed across the threads at the end
        acc += W[k, f] * x[n, f]

Every weight is read once, so time is the weights' bytes over the bandwidth of the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.cuda._base import Arguments, GpuVariant, as_float32, element_bytes, streaming_s
from te_kernels.cuda._builder import block
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import DenseTask
from te_kernels.variant import Layouts, Reject

_LARGEST_BATCH = 16


@dataclass(frozen=True)
class CudaDense(GpuVariant):
    """Any layout in, row-major out. Knobs: the layout and the threads of a block."""

    name = "cuda_dense"
    family = "dense"
    title = "a block of threads for each output"
    task_type = DenseTask

    layout: str
    threads: int
    dtype: str

    @classmethod
    def candidates(cls, task: DenseTask, machine: Gpu) -> Iterator[GpuVariant]:
        """For each layout, enough threads for one or two loads each."""
        if task.data_shape[0] > _LARGEST_BATCH:
            raise Reject(f"a batch of {task.data_shape[0]} reads weights again for each row; the product covers it")
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.data_shape) is None:
                vectors = features(task, layout) // _vector(task, layout)
                first = max(32, min(256, 1 << max(0, (vectors // 2).bit_length() - 1)))
                for threads in dict.fromkeys((first, max(32, first // 2))):
                    yield cls(layout, threads, machine.dtype)

    def layouts(self, task: DenseTask) -> Layouts:
        """Row-major rows out; the epilogue's tensors are such rows as well."""
        return Layouts((self.layout,) + ("plain",) * (len(task.input_shapes) - 1), "plain")

    def pack(self, task: DenseTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights ``[k, stored features]``; constants unchanged."""
        weights = stored_weights(task, self.layout, params[0]).astype(self.dtype)
        return [weights, *(np.asarray(p, np.float32) for p in params[1:])]

    def prim_func(self, task: DenseTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel."""
        batch, count, dtype = task.data_shape[0], features(task, self.layout), machine.dtype
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            args = Arguments(task, self.layouts(task), dtype, [((task.k, count), dtype)], task.k)
            shape = [int(extent) for extent in args.data[0].shape]
            weight = T.sblock_alloc_buffer((task.k, count), "float32", scope="local")
            acc = T.sblock_alloc_buffer((batch, task.k), "float32", scope="local")
            with block("weight", task.k, count) as (k, f):
                T.buffer_store(weight, as_float32(args.params[0][k, f], dtype), [k, f])
            with block("acc", batch, task.k, reductions=(count,)) as (n, k, f):
                with T.init():
                    T.buffer_store(acc, tirx.const(0.0, "float32"), [n, k])
                where = [n]
                for axis in range(1, len(shape)):
                    where.append(f // math.prod(shape[axis + 1 :]) % shape[axis])
                value = as_float32(args.data[0][tuple(where)], dtype)
                T.buffer_store(acc, acc[n, k] + weight[k, f] * value, [n, k])
            with block("out", batch, task.k) as (n, k):
                args.store(acc[n, k], n, k)
        sch = tvm.s_tir.Schedule(builder.get())
        vector = _vector(task, self.layout)
        n, k, f = sch.get_loops(sch.get_sblock("acc"))
        turns, thread, lanes = sch.split(f, [None, self.threads, vector])
        sch.reorder(n, k, thread, turns, lanes)
        sch.bind(sch.fuse(n, k), "blockIdx.x")
        sch.bind(thread, "threadIdx.x")
        sch.unroll(lanes)
        loads = sch.get_sblock("weight")
        sch.compute_at(loads, turns, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(loads)[-1])
        out = sch.get_sblock("out")
        sch.reverse_compute_at(out, sch.get_loops(sch.get_sblock("acc"))[0], preserve_unit_loops=True)
        return sch.mod["main"]

    def model_s(self, task: DenseTask, machine: Gpu) -> float:
        """Weights come from memory once for each row of the batch, from L2 after the first."""
        weights = task.k * features(task, self.layout) * element_bytes(machine)
        again = streaming_s(weights * (task.data_shape[0] - 1) / 4, machine) if task.data_shape[0] > 1 else 0.0
        return streaming_s(weights, machine) + again


def features(task: DenseTask, layout: str) -> int:
    """Stored features of one row, padding lanes included."""
    return math.prod(Layout(layout).physical_shape(task.data_shape)[1:])


def stored_weights(task: DenseTask, layout: str, weight: np.ndarray) -> np.ndarray:
    """Weight ``(k, features)`` with its features in the order in which ``layout`` stores them, zero in padding."""
    shaped = weight.reshape(task.k, *task.data_shape[1:])
    stored = Layout(layout).pack(shaped, 0.0) if len(task.data_shape) == 4 else shaped
    return np.ascontiguousarray(stored.reshape(task.k, -1))


def _vector(task: DenseTask, layout: str) -> int:
    return math.gcd(4, features(task, layout))
