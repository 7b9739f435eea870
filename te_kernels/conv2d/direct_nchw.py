"""Direct convolution in the caller's layout, vectors along the output map; the algorithm is in ``_width_vector``.

Any stride, dilation and number of groups. ShuffleNet's grouped 1x1 convolutions stay in their own layout here: 28
channels a group fit no channel block, but are two tiles of 14 broadcast weights.

On one Zen 5 core (FMA peak 245 GFLOP/s): 3x3 on 64x56x56 at 220, 128x28x28 at 215, 256x14x14 at 200, 512x7x7 at 170;
7x7 stride 2 from 3 channels at 207 and 11x11 stride 4 at 210. What is lost to the blocked layout is the positions
computed between rows, vectors that straddle two cache lines, and the copy back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._nchw import NCHWVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Reject


@dataclass(frozen=True)
class DirectNCHW(NCHWVariant):
    """NCHW -> NCHW from a padded, phase-split copy of the input rows."""

    name = "direct_nchw"
    family = "direct"
    title = "direct, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[NCHWVariant]:
        """Best register tiles."""
        if task.depthwise and task.k == task.c:
            raise Reject("depthwise with one output for each channel: depthwise_nchw is the same algorithm")
        return cls._best(task, machine, "shifted")
