"""Depthwise convolution in the blocked layout, one vector per channel block; the algorithm is in ``_depthwise``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._depthwise import DepthwiseVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DepthwiseNCHWc(DepthwiseVariant):
    """NCHW<V>c -> NCHW<V>c, V the vector length of the target."""

    name = "depthwise_nchwc"
    title = "depthwise, blocked layout"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DepthwiseVariant]:
        """Two register tiles."""
        return cls._tiled(task, machine, machine.blocked_layout)
