"""First layer and max pool in one pass, NCHW in, blocked out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d_pair._first_layer import DirectPoolVariant
from te_kernels.machine import Machine
from te_kernels.task import PairTask


@dataclass(frozen=True)
class DirectPoolNCHWtoNCHWc(DirectPoolVariant):
    """NCHW -> NCHW<V>c, V the vector length of the target, for at most four input channels."""

    name = "direct_pool_nchw_nchwc"
    title = "first layer and max pool in one pass, NCHW in, blocked out"

    @classmethod
    def candidates(cls, task: PairTask, machine: Machine) -> Iterator[DirectPoolVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, "NCHW", machine.blocked_layout)
