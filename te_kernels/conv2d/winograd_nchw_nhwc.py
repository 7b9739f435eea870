"""Winograd convolution over the phases of a first layer's input, NCHW in, NHWC out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.conv2d._winograd_phases import WinogradPhasesVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNCHWtoNHWC(WinogradPhasesVariant):
    """NCHW -> NHWC, for at most four input channels."""

    name = "winograd_nchw_nhwc"
    title = "Winograd over phases, NCHW in, NHWC out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[WinogradVariant]:
        """Best blockings by the model."""
        return cls._of_phases(task, machine, "NHWC")
