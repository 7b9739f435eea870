"""Direct convolution, blocked in, channels last out.

The transform to channels last for free, on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._direct import DirectVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DirectNCHWctoNHWC(DirectVariant):
    """NCHW<V>c -> NHWC."""

    name = "direct_nchwc_nhwc"
    title = "direct, blocked in, channels last out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DirectVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, machine.blocked_layout, "NHWC")
