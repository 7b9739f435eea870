"""Depthwise convolution in the caller's layout, vectors along the output map; the algorithm is in ``_width_vector``.

With one input channel for each output nothing is shared between channels, so the register tile is one channel by as
many vectors as hide the latency; it is bound by its unaligned loads to about half of the multiply-add peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._nchw import NCHWVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class DepthwiseNCHW(NCHWVariant):
    """NCHW -> NCHW; with a channel multiplier, one tile holds the outputs of an input channel."""

    name = "depthwise_nchw"
    family = "depthwise"
    title = "depthwise, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[NCHWVariant]:
        """Best register tiles."""
        if not task.depthwise:
            raise Reject(f"not depthwise: {task.c // task.groups} input channels in each of {task.groups} groups")
        return cls._best(task, machine, "shifted")
