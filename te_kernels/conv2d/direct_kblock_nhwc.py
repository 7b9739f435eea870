"""Direct convolution in NHWC with the reduction cut into blocks; the algorithm is in ``_gemm``.

For wide layers on small maps: 3x3 on 1024 channels has 1.2 MB of weights for 32 output channels, which the plain loop
would read from L3 for every row of a 7x7 map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._channel_gemm import ChannelGemmVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class DirectKBlockNHWC(ChannelGemmVariant):
    """NHWC -> NHWC."""

    name = "direct_kblock_nhwc"
    family = "direct"
    title = "direct with a cache-blocked reduction, NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[ChannelGemmVariant]:
        """Best register tiles."""
        if task.pointwise:
            raise Reject("1x1 without stride and padding: gemm_1x1_nhwc covers it")
        return cls._blocked(task, machine, "NHWC")
