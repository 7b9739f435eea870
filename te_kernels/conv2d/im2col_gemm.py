"""im2col and a matrix product, NCHW; the algorithm is in ``_width_vector`` with its ``columns`` source.

The column buffer is made for one block of output rows at a time, so that it stays in L2 while all output channels
read it, instead of the r*s-fold copy of the whole input that gave im2col its name for wasting memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._nchw import NCHWVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class Im2colGemm(NCHWVariant):
    """NCHW -> NCHW through a column buffer."""

    name = "im2col_gemm"
    family = "im2"
    title = "im2col + GEMM, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[NCHWVariant]:
        """Best register tiles."""
        if task.depthwise:
            raise Reject("depthwise: every column would be used for one output channel only")
        if task.pointwise:
            raise Reject("1x1 without stride and padding: the input is its own column matrix")
        return cls._best(task, machine, "columns")
