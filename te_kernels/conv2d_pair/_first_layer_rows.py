"""Rows of a convolution of few input channels in NCHW, for ``_row_ring``.

    for the rows of the padded input that the row needs and the one before did not:
      lines[row mod r] = row between zeros, of each input channel
    for tile of pixels:        acc[pixels, vectors, V] += broadcast(lines) * W, over c, r and s; epilogue, store

So no element of the input is asked whether it exists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import argument, vector_registers, workspace
from te_kernels.conv2d._map_tiles import guarded
from te_kernels.conv2d_pair._row_ring import Emitter, start_sums, store_row_tile, tile_start
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.conv2d_pair._steps import Steps
from te_kernels.tiling import cdiv
from te_kernels.variant import pad_channels


def pack(g: Geometry, params: list[np.ndarray]) -> list[np.ndarray]:
    """Weights as [chunk, c, r, s, vector, lane], and the epilogue's constants; channels padded by zeros."""
    weight = np.zeros((g.channels, *params[0].shape[1:]), np.float32)
    weight[: g.first.k] = params[0]
    of_chunks = weight.reshape(g.chunks, g.vectors, g.lanes, *params[0].shape[1:])
    return [np.ascontiguousarray(of_chunks.transpose(0, 3, 4, 5, 1, 2)), *pad_channels(params[1:], g.channels)]


def line_floats(g: Geometry) -> int:
    """Of a row of the padded input, in whole vectors."""
    t = g.first
    return cdiv(max(t.pad[1] + t.w, (t.ow - 1) * t.stride[1] + t.s), g.lanes) * g.lanes


def lines_floats(g: Geometry) -> int:
    """Of the rows that one row of the middle reads, of all input channels."""
    return g.first.c * g.first.r * line_floats(g)


class FirstLayerRows:
    """See ``_row_ring.Rows``."""

    weights: Any

    def __init__(self, kernel: Emitter) -> None:
        self.kernel, self.g, self.t = kernel, kernel.g, kernel.first
        self.line = line_floats(self.g)

    def declare(self) -> Any:
        g, t = self.g, self.t
        weights = argument("weight", (g.chunks, t.c, t.r, t.s, g.vectors, g.lanes))
        constants = [argument(f"first{i}", (g.channels,)) for i in range(ep.channel_count(t.steps))]
        self.steps = Steps(t.steps, constants)
        return weights

    def begin(self) -> None:
        """Lines of zeros: what is left and right of the input stays so."""
        self.lines = workspace(lines_floats(self.g))
        with T.serial(0, lines_floats(self.g) // self.g.lanes) as i, T.vectorized(0, self.g.lanes) as lane:
            T.buffer_store(self.lines, tirx.const(0.0, "float32"), [i * self.g.lanes + lane])

    def row(self, ring: Any, place: Any, image: Any, chunk: Any, line: Any, is_first: Any) -> None:
        g = self.g
        self._fetch_lines(image, line, is_first)
        with T.serial(0, g.pixel_tiles) as tile:
            x = tile_start(g, tile)
            acc = vector_registers(g.pixels * g.vectors, g.lanes)
            channels = [T.Bind((chunk * g.vectors + v) * g.lanes) for v in range(g.vectors)]
            start_sums(g, acc, channels * g.pixels, self.steps)
            self._reduce(acc, chunk, line, x)
            store_row_tile(g, acc, ring, place + x * (g.vectors * g.lanes), channels, self.steps)

    def _fetch_lines(self, image: Any, line: Any, is_first: Any) -> None:
        """Those that row ``line`` of the middle reads and the row before did not."""
        g, t = self.g, self.t
        kept = max(0, t.r - t.stride[0]) if self.kernel.second.stride[0] <= g.window_rows else 0
        missing = T.Bind(tirx.Select(is_first, tirx.const(t.r), tirx.const(t.r - kept)))
        with T.serial(0, missing) as j:
            self._fetch(image, T.Bind(line * t.stride[0] + (t.r - missing) + j))

    def _fetch(self, image: Any, row: Any) -> None:
        """A row of the padded input, of all channels."""
        t, line = self.t, self.line
        y = T.Bind(row - t.pad[0])
        with T.serial(0, t.c) as c:
            target = T.Bind(((row % t.r) * t.c + c) * line + t.pad[1])

            def copy(c: Any = c, target: Any = target) -> None:
                source = T.Bind(((image * t.c + c) * t.h + y) * t.w)
                self._each(t.w, lambda x: T.buffer_store(self.lines, self.kernel.data[source + x], [target + x]))

            def zeros(target: Any = target) -> None:
                self._each(t.w, lambda x: T.buffer_store(self.lines, tirx.const(0.0, "float32"), [target + x]))

            guarded([y >= 0, y < t.h], copy, zeros)

    def _each(self, count: int, body: Any) -> None:
        """``body`` of every index, in vectors as far as they go."""
        whole, rest = divmod(count, self.g.lanes)
        if whole:
            with T.serial(0, whole) as i, T.vectorized(0, self.g.lanes) as lane:
                body(i * self.g.lanes + lane)
        if rest:
            with T.serial(0, rest) as i:
                body(whole * self.g.lanes + i)

    def _reduce(self, acc: Any, chunk: Any, line: Any, x: Any) -> None:
        """Sums over the window of the pixels from ``x`` on.

        One tap at a time: where strides are smaller than windows, LLVM would keep what neighbouring taps share on the
        stack. In 64 bits, as sums of 32-bit indices would need an address for each pixel.
        """
        g, t = self.g, self.t
        taps = t.c * t.r * t.s
        with T.serial(0, taps) as tap:
            row, c = line * t.stride[0] + tap // t.s % t.r, tap // (t.r * t.s)
            source = (row % t.r * t.c + c) * self.line + x * t.stride[1] + tap % t.s
            source = T.Bind(tirx.Cast("int64", source))
            weights = T.Bind((chunk * taps + tap) * (g.vectors * g.lanes))
            for i in range(g.pixels):
                for v in range(g.vectors):
                    with T.vectorized(0, g.lanes) as lane:
                        register = (i * g.vectors + v) * g.lanes + lane
                        product = self.lines[source + i * t.stride[1]] * self.weights[weights + v * g.lanes + lane]
                        T.buffer_store(acc, acc[register] + product, [register])
