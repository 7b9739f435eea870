"""MEC, memory-efficient convolution, NHWC; the algorithm is in ``_gemm``.

The windows of one output column are spelt out along the width only and shared by all rows: the matrix is ``r`` times
smaller than im2row's for stride 1 (Cho and Brand, ICML 2017). GFLOP/s beside im2row and direct in NHWC, one thread of a
Zen 5 core, each line measured in turns in one process: 3x3 128x28x28 233, 228, 239; 3x3 512x7x7 227, 220, 235; 3x3
stride 2 128x56x56 228, 220, 232; 5x5 96x27x27 -> 256 237, 231, 237; 7x7 stride 2 3x224x224 -> 64 197, 174, 235; 11x11
stride 4 3x227x227 -> 96 232, 224, 247.
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
