"""Convolution by Strassen's product, blocked layout in, NHWC out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._strassen import StrassenVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class StrassenNCHWcToNHWC(StrassenVariant):
    """NCHW<V>c -> NHWC, V the vector length of the target."""

    name = "strassen_nchwc_nhwc"
    title = "Strassen's product, blocked layout in, NHWC out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[StrassenVariant]:
        """Best numbers of levels and blockings by the model."""
        return cls._blocked(task, machine, machine.blocked_layout, "NHWC")
