"""Direct convolution, NCHW in, blocked out.

Saves the transform of the caller's input: broadcasting does not care where the next channel lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._direct import DirectVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DirectNCHWtoNCHWc(DirectVariant):
    """NCHW -> NCHW<V>c: the usual first layer."""

    name = "direct_nchw_nchwc"
    title = "direct, NCHW in, blocked out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DirectVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NCHW", machine.blocked_layout)
