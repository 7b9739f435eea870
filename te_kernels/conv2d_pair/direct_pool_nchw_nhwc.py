"""First layer and max pool in one pass, NCHW in, NHWC out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d_pair._first_layer import DirectPoolVariant
from te_kernels.machine import Machine
from te_kernels.task import PairTask


@dataclass(frozen=True)
class DirectPoolNCHWtoNHWC(DirectPoolVariant):
    """NCHW -> NHWC, for at most four input channels."""

    name = "direct_pool_nchw_nhwc"
    title = "first layer and max pool in one pass, NCHW in, NHWC out"

    @classmethod
    def candidates(cls, task: PairTask, machine: Machine) -> Iterator[DirectPoolVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NCHW", "NHWC")
