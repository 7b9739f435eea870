"""Rows of a convolution of few input channels in NCHW, for ``_row_ring``.

    for the rows of the padded input that the row needs and the one before did not:
      lines[row mod r] = row between zeros, of each input channel
    sums of a tile:        broadcast(lines) * W, over c, r and s

So no element of the input is asked whether it exists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import workspace
from te_kernels.conv2d._map_tiles import guarded
from te_kernels.conv2d_pair._padding import padded_width
from te_kernels.conv2d_pair._row_ring import Rows
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv
from te_kernels.variant import Reject

#: More input channels are themselves what a vector holds; no first layer's kernel is known to be wider.
_MOST_CHANNELS, _MOST_TAPS = 4, 11


class FirstLayerRows(Rows):
    """Weights as [chunk, c, r, s, vector, lane]."""

    @staticmethod
    def check(first: object) -> None:
        if not isinstance(first, ConvTask) or first.groups > 1 or first.dilation != (1, 1):
            raise Reject("the first is not a convolution without groups and dilation")
        if first.c > _MOST_CHANNELS:
            raise Reject(f"{first.c} input channels; a first layer has at most {_MOST_CHANNELS}")
        if first.s > _MOST_TAPS:
            raise Reject(f"{first.s} taps in a row of the kernel; a first layer has at most {_MOST_TAPS}")

    @staticmethod
    def ring_bytes(machine: Machine) -> float:
        """Beyond L1: fetching lines for more channels pays."""
        return machine.l2_bytes / 16

    @staticmethod
    def pack(g: Geometry, weight: np.ndarray) -> np.ndarray:
        padded = np.zeros((g.channels, *weight.shape[1:]), np.float32)
        padded[: g.first.k] = weight
        of_chunks = padded.reshape(g.chunks, g.vectors, g.lanes, *weight.shape[1:])
        return np.ascontiguousarray(of_chunks.transpose(0, 3, 4, 5, 1, 2))

    @staticmethod
    def workspace_floats(g: Geometry) -> int:
        """The lines that one row of the middle reads, of all input channels."""
        return g.first.c * g.first.r * FirstLayerRows._line_floats(g)

    @staticmethod
    def _line_floats(g: Geometry) -> int:
        """Of a row of the padded input, in whole vectors."""
        return cdiv(padded_width(g.first), g.lanes) * g.lanes

    @property
    def weight_shape(self) -> tuple[int, ...]:
        t = self.t
        return (self.g.chunks, t.c, t.r, t.s, self.g.vectors, self.g.lanes)

    def begin(self) -> None:
        """Lines of zeros: what is left and right of the input stays so."""
        self.lines = workspace(self.workspace_floats(self.g))
        with T.serial(0, self.workspace_floats(self.g) // self.g.lanes) as i, T.vectorized(0, self.g.lanes) as lane:
            T.buffer_store(self.lines, tirx.const(0.0, "float32"), [i * self.g.lanes + lane])

    def prepare(self, image: Any, line: Any, is_first: Any) -> None:
        """Fetches the lines that row ``line`` of the middle reads and the row before did not."""
        g, t = self.g, self.t
        kept = max(0, t.r - t.stride[0]) if self.kernel.second.stride[0] <= g.window_rows else 0
        missing = T.Bind(tirx.Select(is_first, tirx.const(t.r), tirx.const(t.r - kept)))
        with T.serial(0, missing) as j:
            self._fetch(image, T.Bind(line * t.stride[0] + (t.r - missing) + j))

    def _fetch(self, image: Any, row: Any) -> None:
        """A row of the padded input, of all channels."""
        t, line = self.t, self._line_floats(self.g)
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

    def reduce(self, acc: Any, image: Any, chunk: Any, line: Any, x: Any) -> None:
        """Sums over the window of the pixels from ``x`` on.

        One tap at a time: where strides are smaller than windows, LLVM would keep what neighbouring taps share on the
        stack. In 64 bits, as sums of 32-bit indices would need an address for each pixel.
        """
        g, t = self.g, self.t
        taps = t.c * t.r * t.s
        with T.serial(0, taps) as tap:
            row, c = line * t.stride[0] + tap // t.s % t.r, tap // (t.r * t.s)
            source = (row % t.r * t.c + c) * self._line_floats(g) + x * t.stride[1] + tap % t.s
            source = T.Bind(tirx.Cast("int64", source))
            weights = T.Bind((chunk * taps + tap) * (g.vectors * g.lanes))
            for i in range(g.pixels):
                for v in range(g.vectors):
                    with T.vectorized(0, g.lanes) as lane:
                        register = (i * g.vectors + v) * g.lanes + lane
                        product = self.lines[source + i * t.stride[1]] * self.weights[weights + v * g.lanes + lane]
                        T.buffer_store(acc, acc[register] + product, [register])
