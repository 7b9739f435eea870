"""1x1 convolution in the blocked layout as a matrix product with the reduction cut; the algorithm is in ``_gemm``.

The direct variants read a 1x1 convolution as one flat matrix product already; this one is for many input channels,
whose weights for a register tile would not stay in L2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._channel_gemm import ChannelGemmVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class Gemm1x1NCHWc(ChannelGemmVariant):
    """NCHW<V>c -> NCHW<V>c, pointwise only."""

    name = "gemm_1x1_nchwc"
    family = "gemm"
    title = "1x1 as a cache-blocked matrix product, blocked layout"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[ChannelGemmVariant]:
        """Best register tiles."""
        if not task.pointwise:
            raise Reject(f"not pointwise: window {task.r}x{task.s}, stride {task.stride}, padding {task.pad}")
        return cls._blocked(task, machine, machine.blocked_layout)
