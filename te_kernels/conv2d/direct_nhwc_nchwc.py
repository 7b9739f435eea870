"""Direct convolution, channels last in, blocked out.

The transform to the blocked layout for free, on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._direct import DirectVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DirectNHWCtoNCHWc(DirectVariant):
    """NHWC -> NCHW<V>c."""

    name = "direct_nhwc_nchwc"
    title = "direct, channels last in, blocked out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DirectVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NHWC", machine.blocked_layout)
