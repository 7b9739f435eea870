"""Depthwise convolution in NHWC, vectors of channels; the algorithm is in ``_depthwise``.

The vector is the longest power of two that divides the channels: 24 channels run in vectors of 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._depthwise import DepthwiseVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DepthwiseNHWC(DepthwiseVariant):
    """NHWC -> NHWC."""

    name = "depthwise_nhwc"
    title = "depthwise, channels last"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DepthwiseVariant]:
        """Two register tiles."""
        return cls._tiled(task, machine, "NHWC")
