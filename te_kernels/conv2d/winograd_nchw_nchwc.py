"""Winograd convolution over the phases of a first layer's input, NCHW in, blocked out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.conv2d._winograd_phases import WinogradPhasesVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNCHWtoNCHWc(WinogradPhasesVariant):
    """NCHW -> NCHW<V>c, for at most four input channels."""

    name = "winograd_nchw_nchwc"
    title = "Winograd over phases, NCHW in, blocked out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[WinogradVariant]:
        """Best blockings by the model."""
        return cls._of_phases(task, machine, machine.blocked_layout)
