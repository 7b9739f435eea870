"""A convolution with a stride as one without: over the phases of its input, which take the place of its channels.

    out[k, y, x] = sum_{c, p, q} sum_{i, j} w[k, c, i sh + p, j sw + q] * phase[c, p, q][y + i, x + j]
    phase[c, p, q][y, x] = padded input[c, y sh + p, x sw + q]

``c * sh * sw`` channels in place of ``c``, and a kernel of ``ceil(r / sh) x ceil(s / sw)``, zero where the taps end. Of
use for first layers: with 3 input channels a vector of channels would be empty for the most part, and a 7x7 kernel with
stride 2 has 12 phases and a kernel of 4x4, one of 11x11 with stride 4 has 48 and 3x3.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import flat, workspace
from te_kernels.conv2d._map_tiles import guarded
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv


@dataclass(frozen=True)
class Phases:
    """Of a task without groups and dilation, whose input is NCHW, as vectors of ``lanes`` phases."""

    task: ConvTask
    lanes: int

    @property
    def unstrided(self) -> ConvTask:
        """The convolution over the phases: stride 1, no padding, the same result and epilogue."""
        t = self.task
        (sh, sw), r, s = t.stride, cdiv(t.r, t.stride[0]), cdiv(t.s, t.stride[1])
        return dataclasses.replace(
            t, c=t.c * sh * sw, h=t.oh + r - 1, w=t.ow + s - 1, r=r, s=s, stride=(1, 1), pad=(0, 0, 0, 0)
        )

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Of the argument."""
        return self.task.input_shapes[0]

    @property
    def workspace_floats(self) -> int:
        """Size of all phases, as vectors."""
        u = self.unstrided
        return u.n * cdiv(u.c, self.lanes) * u.h * u.w * self.lanes

    def kernel(self, weight: np.ndarray) -> np.ndarray:
        """``(k, c, r, s)`` as the kernel of :attr:`unstrided`."""
        t, u = self.task, self.unstrided
        (sh, sw) = t.stride
        padded = np.zeros((t.k, t.c, u.r * sh, u.s * sw), weight.dtype)
        padded[:, :, : t.r, : t.s] = weight
        return padded.reshape(t.k, t.c, u.r, sh, u.s, sw).transpose(0, 1, 3, 5, 2, 4).reshape(t.k, u.c, u.r, u.s)

    def emit(self, data: Any) -> Any:
        """All phases of ``data`` in the blocked layout; rows are dealt to the threads."""
        t, u, lanes = self.task, self.unstrided, self.lanes
        vectors, source, target = cdiv(u.c, lanes), flat(data), workspace(self.workspace_floats)
        with T.parallel(0, t.n * u.h) as line:
            image, y = T.Bind(line // u.h), T.Bind(line % u.h)
            row = T.Bind((image * (vectors * u.h) + y) * (u.w * lanes))
            for vector in range(vectors):
                with T.serial(0, u.w) as x, T.vectorized(0, lanes) as lane:
                    first = row + vector * (u.h * u.w * lanes)
                    T.buffer_store(target, tirx.const(0.0, "float32"), [first + x * lanes + lane])
            for p, c in itertools.product(range(t.stride[0]), range(t.c)):
                top = T.Bind(y * t.stride[0] + (p - t.pad[0]))
                start = T.Bind(((image * t.c + c) * t.h + top) * t.w - t.pad[1])
                phase = (c * t.stride[0] + p) * t.stride[1]
                guarded([top >= 0, top < t.h], functools.partial(self._line, source, target, start, row, phase))
        return target

    def _line(self, source: Any, target: Any, start: Any, row: Any, phase: int) -> None:
        """The phases of one row of a channel, ``phase`` the first: ``stride`` neighbours make one pixel of them."""
        t, u, lanes, stride = self.task, self.unstrided, self.lanes, self.task.stride[1]

        def position(x: Any, q: Any) -> Any:
            return row + (((phase + q) // lanes * u.h * u.w + x) * lanes + (phase + q) % lanes)

        def exists(x: int, q: int) -> bool:
            return 0 <= x * stride + q - t.pad[1] < t.w

        first = cdiv(t.pad[1], stride)
        whole = range(first, min(u.w, (t.w + t.pad[1]) // stride))
        together = lanes % stride == 0  # they do not spread over two vectors
        if whole:
            with T.serial(0, len(whole)) as i:
                if together:
                    at = T.Bind(position(first + i, 0))
                    with T.vectorized(0, stride) as q:
                        T.buffer_store(target, source[start + (first + i) * stride + q], [at + q])
                else:
                    for one in range(stride):
                        element = source[start + (first + i) * stride + one]
                        T.buffer_store(target, element, [position(first + i, one)])
        for x, one in itertools.product(range(u.w), range(stride)):
            if x not in whole and exists(x, one):
                T.buffer_store(target, source[start + (x * stride + one)], [position(x, one)])
