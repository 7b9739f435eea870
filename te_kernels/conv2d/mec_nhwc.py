"""MEC, memory-efficient convolution, NHWC; the algorithm is in ``_gemm``.

The windows of one output column are spelt out along the width only and shared by all rows: the matrix is ``r`` times
smaller than im2row's for stride 1 (Cho and Brand, ICML 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._channel_gemm import ChannelGemmVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class MecNHWC(ChannelGemmVariant):
    """NHWC -> NHWC through the compact matrix."""

    name = "mec_nhwc"
    family = "im2"
    title = "MEC (lowered along the width) + GEMM, NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[ChannelGemmVariant]:
        """Best register tiles."""
        if task.depthwise:
            raise Reject("depthwise: every row would be used for one output channel only")
        if task.r == 1 or task.s == 1:
            raise Reject(f"{task.r}x{task.s}: windows overlap along one axis only, im2row is the same or no larger")
        return cls._form(task, machine, "NHWC", "mec")
