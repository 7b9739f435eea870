"""Direct convolution in the caller's layout, vectors along the output map; the algorithm is in ``_width_vector``.

Any stride, dilation and number of groups. ShuffleNet's grouped 1x1 convolutions stay in their own layout here: 28
channels a group fit no channel block, but are two tiles of 14 broadcast weights.
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
