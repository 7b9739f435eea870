"""Direct convolution: one thread for each output (16 bytes of channels where they are innermost).

    acc = 0
    for c, r, s: acc += x[n, c, y*sh + r*dh - top, x*sw + s*dw - left] * W[k, c, r, s]

No reuse but that of L1 and L2: for few input channels and taps, depthwise convolution above all, where a matrix
product has nothing to share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from te_kernels.cuda import _flat
from te_kernels.cuda._base import (
    Arguments,
    GpuVariant,
    as_float32,
    element_bytes,
    packed_constants,
    padded_channels,
    streaming_s,
)
from te_kernels.cuda._generic import vector_of
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

#: Longest sums worth a thread each.
_LONGEST = 288
#: Bytes from L1 that a multiprocessor gets in a cycle: half of the 128 of the hardware, beside address arithmetic.
_L1_BYTES = 64
#: Cycles of one product in the chain of a sum: its multiply-add, and its loads as far as they do not overlap.
_CHAIN_CYCLES = 12


@dataclass(frozen=True)
class CudaDirect(GpuVariant):
    """Every layout. Knob: the layout."""

    name = "cuda_direct"
    family = "direct"
    title = "a thread for each output"
    task_type = ConvTask

    layout: str

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """One for each layout."""
        length = task.c // task.groups * task.r * task.s
        if length > _LONGEST:
            raise Reject(f"sums of {length} products; beyond {_LONGEST} the matrix products reuse what they load")
        for layout in machine.layouts:
            block = Layout(layout).block
            if block and task.groups > 1 and not task.depthwise and task.c // task.groups % block:
                continue
            yield cls(layout)

    def layouts(self, task: ConvTask) -> Layouts:
        """The same everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weight to ``[r, s, c / groups, k]``, padded like the output's channels: neighbours read neighbours."""
        weight = np.asarray(params[0], np.float32).transpose(2, 3, 1, 0)
        padding = padded_channels(self.layout, task.k) - task.k
        packed = np.ascontiguousarray(np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, padding))))
        return [packed, *packed_constants(self.layout, params[1:])]

    def prim_func(self, task: ConvTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel."""
        cg, kg = task.c // task.groups, task.k // task.groups
        (top, left, _, _), (sh, sw), (dh, dw) = task.pad, task.stride, task.dilation
        shape = (task.r, task.s, cg, padded_channels(self.layout, task.k))
        vector = 1
        if self.layout != "NCHW":
            vector = vector_of(self.layout, task.output_shape, *(() if kg == 1 and cg == 1 else (kg,)))
        if kg > 1 and cg == 1:
            vector = math.gcd(vector, kg)

        def term(args: Arguments, index: tuple[Any, ...], c: Any, i: Any, j: Any) -> Any:
            n, k, h, w = index
            y, x = h * sh + i * dh - top, w * sw + j * dw - left
            if task.groups == 1:
                channel = c
            elif kg == 1 and cg == 1:
                channel = k
            else:  # the same for all lanes of a vector; padding lanes read the last group
                channel = tirx.min(tirx.floordiv(k, kg), task.groups - 1) * cg + c
            conditions = []
            if any(task.pad):
                conditions = [y >= 0, y < task.h, x >= 0, x < task.w]
            value = args.read(0, n, channel, y, x)
            if conditions:
                value = tirx.if_then_else(tirx.all(*conditions), value, tirx.const(0.0, "float32"))
            return value * as_float32(args.params[0][i, j, c, k], "float32")

        reduction = _flat.Reduction((cg, task.r, task.s), 0.0, lambda a, b: a + b, term)
        return _flat.prim_func(task, self.layouts(task), machine, reduction, vector, [(shape, "float32")])

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """Every product needs its weight and, shared by the lanes of a vector, its input from L1; sums are chains."""
        width = 1 if self.layout == "NCHW" else 4
        loaded = task.flops / 2 * 4 * (1 + 1 / width)
        l1_s = loaded / (machine.multiprocessors * _L1_BYTES * machine.clock_hz)
        threads = math.prod(task.output_shape) / width
        rounds = math.ceil(threads / (machine.multiprocessors * machine.multiprocessor_threads))
        chain_s = rounds * (task.c // task.groups * task.r * task.s) * _CHAIN_CYCLES / machine.clock_hz
        return streaming_s(task.bytes_moved // 4 * element_bytes(machine), machine) + max(l1_s, chain_s)
