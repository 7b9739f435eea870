"""Direct convolution, blocked layout in and out.

One output vector is one channel block, so stores are whole cache lines; 93-97 % of the FMA peak of one Zen 5 core
on 3x3 and 1x1 layers with 64 and more channels (see docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._direct import DirectVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class DirectNCHWc(DirectVariant):
    """NCHW<V>c -> NCHW<V>c, V the vector length of the target."""

    name = "direct_nchwc"
    title = "direct, blocked layout in and out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[DirectVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, machine.blocked_layout, machine.blocked_layout)
