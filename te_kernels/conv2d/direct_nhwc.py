"""Direct convolution, channels last in and out.

The input is read one broadcast value at a time, so channels last cost it nothing; a channel count that is not a
multiple of the vector length makes the last vector of every pixel a scalar loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._direct import DirectVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DirectNHWC(DirectVariant):
    """NHWC -> NHWC."""

    name = "direct_nhwc"
    title = "direct, channels last in and out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DirectVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NHWC", "NHWC")
