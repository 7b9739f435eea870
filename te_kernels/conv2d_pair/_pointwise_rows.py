"""Rows of a 1x1 convolution, for ``_row_ring``.

for tile of pixels:        acc[pixels, vectors, V] += broadcast(data) * U, c innermost; epilogue, store
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import argument, vector_registers
from te_kernels.conv2d_pair._row_ring import Emitter, start_sums, store_row_tile, tile_start
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.conv2d_pair._steps import Steps
from te_kernels.conv2d_pair._window import window
from te_kernels.variant import pad_channels


def pack(g: Geometry, params: list[np.ndarray]) -> list[np.ndarray]:
    """Weights as [chunk, input channel, vector, lane], and the epilogue's constants; channels padded by zeros."""
    weight = np.zeros((g.channels, g.first.c), np.float32)
    weight[: g.first.k] = params[0][:, :, 0, 0]
    of_chunks = weight.reshape(g.chunks, g.vectors, g.lanes, -1)
    return [np.ascontiguousarray(of_chunks.transpose(0, 3, 1, 2)), *pad_channels(params[1:], g.channels)]


class PointwiseRows:
    """See ``_row_ring.Rows``."""

    weights: Any

    def __init__(self, kernel: Emitter) -> None:
        self.kernel, self.g, self.t = kernel, kernel.g, kernel.first

    def declare(self) -> Any:
        g = self.g
        weights = argument("expand", (g.chunks, self.t.c, g.vectors, g.lanes))
        constants = [argument(f"first{i}", (g.channels,)) for i in range(ep.channel_count(self.t.steps))]
        self.steps = Steps(self.t.steps, constants)
        return weights

    def begin(self) -> None:
        """Nothing."""

    def row(self, ring: Any, place: Any, image: Any, chunk: Any, line: Any, is_first: Any) -> None:
        g, one = self.g, self.t
        with T.serial(0, g.pixel_tiles) as tile:
            x = tile_start(g, tile)
            acc = vector_registers(g.pixels * g.vectors, g.lanes)
            channels = [T.Bind((chunk * g.vectors + v) * g.lanes) for v in range(g.vectors)]
            start_sums(g, acc, channels * g.pixels, self.steps)
            self._reduce(acc, chunk, (image * one.h + line) * one.w + x, image)
            store_row_tile(g, acc, ring, place + x * (g.vectors * g.lanes), channels, self.steps)

    def _reduce(self, acc: Any, chunk: Any, pixel: Any, image: Any) -> None:
        """Sums over the input channels of the pixels from ``pixel`` on, which counts those of all images."""
        g, one = self.g, self.t
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
