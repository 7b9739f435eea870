"""A max pool over the rows of ``_row_ring``."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d_pair._row_ring import Emitter
from te_kernels.task import PoolTask
from te_kernels.variant import Reject

#: Elements of the largest window that is written out: 5x5.
_UNROLLED_WINDOW = 25


def check(second: object) -> PoolTask:
    """The second operator of a pair if it is one for these windows; raises :class:`Reject`."""
    if not isinstance(second, PoolTask) or second.mode != "max" or second.steps:
        raise Reject("the second is not a max pool without epilogue")
    if second.r * second.s > _UNROLLED_WINDOW:
        raise Reject(f"a window of {second.r}x{second.s} is too large to be unrolled")
    return second


class MaxWindows:
    """See ``_row_ring.Windows``."""

    outside = float(np.finfo(np.float32).min)
    weights: Any = None

    def __init__(self, kernel: Emitter) -> None:
        self.kernel, self.g, self.t = kernel, kernel.g, kernel.second

    def declare(self) -> Any:
        return None

    def tile(self, ring: Any, rows: list[Any], chunk: Any, v: int, x: Any, positions: list[Any]) -> None:
        g, two = self.g, self.t
        acc = vector_registers(g.columns, g.lanes)
        for r in range(two.r):
            start = T.Bind(rows[r] + (x * two.stride[1] * g.vectors + v) * g.lanes)
            for s in range(two.s):
                for i in range(g.columns):
                    with T.vectorized(0, g.lanes) as lane:
                        offset = (i * two.stride[1] + s * two.dilation[1]) * g.vectors * g.lanes
                        element, slot = ring[start + offset + lane], i * g.lanes + lane
                        T.buffer_store(acc, tirx.max(acc[slot], element) if r or s else element, [slot])
        for i, position in enumerate(positions):
            with T.vectorized(0, g.lanes) as lane:
                T.buffer_store(self.kernel.out, acc[i * g.lanes + lane], [position + lane])
