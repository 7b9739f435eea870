"""1x1 and depthwise in one pass, NHWC in, blocked layout out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d_pair._expand_depthwise import ExpandDepthwiseVariant
from te_kernels.machine import Machine
from te_kernels.task import PairTask


@dataclass(frozen=True)
class ExpandDepthwiseNHWCToNCHWc(ExpandDepthwiseVariant):
    """NHWC -> NCHW<V>c, V the vector length of the target."""

    name = "expand_depthwise_nhwc_nchwc"
    title = "1x1 and depthwise in one pass, NHWC in, blocked layout out"

    @classmethod
    def candidates(cls, task: PairTask, machine: Machine) -> Iterator[ExpandDepthwiseVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NHWC", machine.blocked_layout)
