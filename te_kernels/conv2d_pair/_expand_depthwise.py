"""A 1x1 convolution and the depthwise one behind it, of which what lies between never leaves L1.

    mid[c, y, x] = e1(sum_i data[i, y, x] * U[c, i])
    out[c, y, x] = e2(sum_{r, s} mid[c, y sh + r - top, x sw + s - left] * W[c, r, s])

The middle of an inverted residual block (Sandler et al., "MobileNetV2", CVPR 2018) has six times the channels of its
ends, and each element of it takes part in nine multiply-adds: written and read back, it costs more than it computes.
The algorithm is that of ``_row_ring``.

Microseconds on one Emerald Rapids core, measured as in a network, and of the fastest two kernels (in brackets), NHWC or
NCHW16c: 16 -> 96 channels on 112x112, stride 2, 340 (513); 24 -> 144 on 56x56 236 (305), with stride 2 166 (202);
32 -> 192 on 28x28 84 (92); 64 -> 384 on 14x14, which L2 holds anyway, 76 (73).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import tvm

from te_kernels.conv2d_pair import _depthwise_windows, _pointwise_rows
from te_kernels.conv2d_pair._row_ring import Emitter
from te_kernels.conv2d_pair._row_ring_model import L1_PART
from te_kernels.conv2d_pair._row_ring_variant import RowRingVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, PairTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class ExpandDepthwiseVariant(RowRingVariant):
    """Base of the variants, which differ in their layouts."""

    @classmethod
    def _tiled(cls, task: PairTask, machine: Machine, data: str, out: str) -> Iterator[Self]:
        one = task.first
        _depthwise_windows.check(task.second)
        if not isinstance(one, ConvTask) or not one.pointwise or one.groups > 1:
            raise Reject("the first is not a 1x1 without groups, stride and padding")
        return cls._best(task, machine, data, out, L1_PART * machine.l1_bytes)

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        g, (first, second) = self.geometry(task), task.split(params)
        return [*_pointwise_rows.pack(g, first), *_depthwise_windows.pack(g, second)]

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        kernel = Emitter(self.geometry(task), self.layouts(task), machine)
        return kernel.prim_func(_pointwise_rows.PointwiseRows(kernel), _depthwise_windows.DepthwiseWindows(kernel))
