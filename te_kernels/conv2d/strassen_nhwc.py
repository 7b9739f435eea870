"""Convolution by Strassen's product, NHWC in and out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._strassen import StrassenVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class StrassenNHWC(StrassenVariant):
    """NHWC -> NHWC."""

    name = "strassen_nhwc"
    title = "Strassen's product, NHWC in and out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[StrassenVariant]:
        """Best numbers of levels and blockings by the model."""
        return cls._blocked(task, machine, "NHWC", "NHWC")
