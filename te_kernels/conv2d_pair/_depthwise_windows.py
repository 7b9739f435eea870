"""A depthwise convolution over the rows of ``_row_ring``."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import argument, vector_registers
from te_kernels.conv2d_pair._row_ring import Emitter, start_sums
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.conv2d_pair._steps import Steps
from te_kernels.task import ConvTask
from te_kernels.variant import Reject, pad_channels

#: Elements of the largest window that is written out: 5x5.
_UNROLLED_WINDOW = 25


def check(second: object) -> ConvTask:
    """The second operator of a pair if it is one for these windows; raises :class:`Reject`."""
    if not isinstance(second, ConvTask) or not second.depthwise or second.k != second.c:
        raise Reject("the second is not depthwise with one output for each input channel")
    if second.r * second.s > _UNROLLED_WINDOW:
        raise Reject(f"a window of {second.r}x{second.s} is too large to be unrolled")
    return second


def pack(g: Geometry, params: list[np.ndarray]) -> list[np.ndarray]:
    """Weights as [chunk, vector, r, s, lane], and the epilogue's constants; channels padded by zeros."""
    weight = np.zeros((g.channels, g.second.r * g.second.s), np.float32)
    weight[: g.first.k] = params[0].reshape(g.first.k, -1)
    of_chunks = weight.reshape(g.chunks, g.vectors, g.lanes, -1)
    return [np.ascontiguousarray(of_chunks.transpose(0, 1, 3, 2)), *pad_channels(params[1:], g.channels)]


class DepthwiseWindows:
    """See ``_row_ring.Windows``."""

    outside = 0.0
    weights: Any

    def __init__(self, kernel: Emitter) -> None:
        self.kernel, self.g, self.t = kernel, kernel.g, cast(ConvTask, kernel.second)

    def declare(self) -> Any:
        g, t = self.g, self.t
        weights = argument("depthwise", (g.chunks, g.vectors, t.r * t.s, g.lanes))
        constants = [argument(f"second{i}", (g.channels,)) for i in range(ep.channel_count(t.steps))]
        self.steps = Steps(t.steps, constants)
        return weights

    def tile(self, ring: Any, rows: list[Any], chunk: Any, v: int, x: Any, positions: list[Any]) -> None:
        g, two, kernel = self.g, self.t, self.kernel
        acc = vector_registers(g.columns, g.lanes)
        channel = T.Bind((chunk * g.vectors + v) * g.lanes)
        start_sums(g, acc, [channel] * g.columns, self.steps)
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
                value = self.steps.after(acc[i * g.lanes + lane], channel + lane, read)
                T.buffer_store(kernel.out, value, [position + lane])
