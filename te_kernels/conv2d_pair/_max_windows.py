"""A max pool over the rows of ``_row_ring``."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d_pair._padding import LOWEST
from te_kernels.conv2d_pair._row_ring import Windows
from te_kernels.task import PoolTask
from te_kernels.variant import Reject


class MaxWindows(Windows):
    """No weights."""

    outside = LOWEST
    weight_shape = None

    @staticmethod
    def check(second: object) -> None:
        if not isinstance(second, PoolTask) or second.mode != "max" or second.steps:
            raise Reject("the second is not a max pool without epilogue")

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
