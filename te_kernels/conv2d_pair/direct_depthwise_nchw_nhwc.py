"""First layer and depthwise in one pass, NCHW in, NHWC out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d_pair._first_layer import DirectDepthwiseVariant
from te_kernels.machine import Machine
from te_kernels.task import PairTask


@dataclass(frozen=True)
class DirectDepthwiseNCHWtoNHWC(DirectDepthwiseVariant):
    """NCHW -> NHWC, for at most four input channels."""

    name = "direct_depthwise_nchw_nhwc"
    title = "first layer and depthwise in one pass, NCHW in, NHWC out"

    @classmethod
    def candidates(cls, task: PairTask, machine: Machine) -> Iterator[DirectDepthwiseVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NCHW", "NHWC")
