"""1x1 kept in registers, blocked layout in and out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._pointwise import PointwiseVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class PointwiseNCHWc(PointwiseVariant):
    """NCHW<V>c -> NCHW<V>c, V the vector length of the target."""

    name = "pointwise_nchwc"
    title = "1x1 kept in registers, blocked layout in and out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[PointwiseVariant]:
        """Best register tiles."""
        return cls._tiled(task, machine, machine.blocked_layout, machine.blocked_layout)
