"""im2row and a matrix product, NHWC; the algorithm is in ``_gemm``.

Each output position's window is spelt out as one row [r, s, c] of a matrix, whose product with the packed weights is
the convolution. The matrix is made for one block of output rows at a time, so that it stays in L2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._channel_gemm import ChannelGemmVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class Im2rowGemm(ChannelGemmVariant):
    """NHWC -> NHWC through a row buffer."""

    name = "im2row_gemm"
    family = "im2"
    title = "im2row + GEMM, NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[ChannelGemmVariant]:
        """Best register tiles."""
        if task.depthwise:
            raise Reject("depthwise: every row would be used for one output channel only")
        if task.pointwise:
            raise Reject("1x1 without stride and padding: the input is its own row matrix")
        return cls._form(task, machine, "NHWC", "im2row")
