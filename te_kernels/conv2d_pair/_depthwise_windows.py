"""A depthwise convolution over the rows of ``_row_ring``."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d_pair._row_ring import Windows
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


class DepthwiseWindows(Windows):
    """Weights as [chunk, vector, r, s, lane]."""

    outside = 0.0

    @staticmethod
    def check(second: object) -> None:
        if not isinstance(second, ConvTask) or not second.depthwise or second.k != second.c:
            raise Reject("the second is not depthwise with one output for each input channel")

    @staticmethod
    def pack(g: Geometry, weight: np.ndarray) -> np.ndarray:
        padded = np.zeros((g.channels, g.second.r * g.second.s), np.float32)
        padded[: g.first.k] = weight.reshape(g.first.k, -1)
        return np.ascontiguousarray(padded.reshape(g.chunks, g.vectors, g.lanes, -1).transpose(0, 1, 3, 2))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        g, t = self.g, self.t
        return (g.chunks, g.vectors, t.r * t.s, g.lanes)

    def tile(self, ring: Any, rows: list[Any], chunk: Any, v: int, x: Any, positions: list[Any]) -> None:
        g, two, kernel = self.g, self.t, self.kernel
        acc = vector_registers(g.columns, g.lanes)
        channel = T.Bind((chunk * g.vectors + v) * g.lanes)
        kernel.start_sums(acc, [channel] * g.columns, kernel.second_steps)
        weights = T.Bind((chunk * g.vectors + v) * (two.r * two.s * g.lanes))
        for r in range(two.r):
            start = T.Bind(rows[r] + (x * two.stride[1] * g.vectors + v) * g.lanes)
            for s in range(two.s):
                for i in range(g.columns):
                    with T.vectorized(0, g.lanes) as lane:
                        offset = (i * two.stride[1] + s * two.dilation[1]) * g.vectors * g.lanes
                        w = self.weights[weights + (r * two.s + s) * g.lanes + lane]
                        product = ring[start + offset + lane] * w
                        T.buffer_store(acc, acc[i * g.lanes + lane] + product, [i * g.lanes + lane])
        for i, position in enumerate(positions):
            with T.vectorized(0, g.lanes) as lane:
                read = [tensor[position + lane] for tensor in kernel.tensors]
                value = kernel.second_steps.after(acc[i * g.lanes + lane], channel + lane, read)
                T.buffer_store(kernel.out, value, [position + lane])
