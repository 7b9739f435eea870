"""Rows of a 1x1 convolution, for ``_row_ring``: broadcast(data) * U, c innermost."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels.conv2d_pair._row_ring import Rows
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.conv2d_pair._window import window
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject

#: Of L1, that a ring may take which is to stay there: the row beside the map is hardly read.
_L1_PART = 1.25


class PointwiseRows(Rows):
    """Weights as [chunk, input channel, vector, lane]."""

    @staticmethod
    def check(first: object) -> None:
        if not isinstance(first, ConvTask) or not first.pointwise or first.groups > 1:
            raise Reject("the first is not a 1x1 without groups, stride and padding")

    @staticmethod
    def ring_bytes(machine: Machine) -> float:
        return _L1_PART * machine.l1_bytes

    @staticmethod
    def pack(g: Geometry, weight: np.ndarray) -> np.ndarray:
        padded = np.zeros((g.channels, g.first.c), np.float32)
        padded[: g.first.k] = weight[:, :, 0, 0]
        return np.ascontiguousarray(padded.reshape(g.chunks, g.vectors, g.lanes, -1).transpose(0, 3, 1, 2))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.g.chunks, self.t.c, self.g.vectors, self.g.lanes)

    def reduce(self, acc: Any, image: Any, chunk: Any, line: Any, x: Any) -> None:
        g, one = self.g, self.t
        pixel = (image * one.h + line) * one.w + x
        weights = T.Bind(chunk * (one.c * g.vectors * g.lanes))

        def run(source: Any, pitch: int, first: Any, count: int) -> None:
            pixels = window(self.kernel.data, source, (g.pixels - 1) * pitch + count)
            with T.serial(0, count) as c:
                for i in range(g.pixels):
                    for v in range(g.vectors):
                        with T.vectorized(0, g.lanes) as lane:
                            register = (i * g.vectors + v) * g.lanes + lane
                            w = self.weights[weights + ((first + c) * g.vectors + v) * g.lanes + lane]
                            T.buffer_store(acc, acc[register] + pixels[i * pitch + c] * w, [register])

        block = self.kernel.input.block
        if not block:
            run(T.Bind(pixel * one.c), one.c, 0, one.c)
            return
        image_pixels = one.h * one.w
        whole, rest = divmod(one.c, block)
        blocks = whole + (rest > 0)
        first = T.Bind((image * ((blocks - 1) * image_pixels) + pixel) * block)
        if whole:
            with T.serial(0, whole) as b:
                run(T.Bind(first + b * (image_pixels * block)), block, b * block, block)
        if rest:
            run(T.Bind(first + whole * (image_pixels * block)), block, whole * block, rest)
