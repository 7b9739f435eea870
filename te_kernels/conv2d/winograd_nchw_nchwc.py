"""Winograd convolution over the phases of a first layer's input, NCHW in, blocked out.

Microseconds on one core of Zen 4, from 3 channels of 224x224, and those of the best direct kernel: 7x7 stride 2 to 64
channels 802 and 2089, to 96 1017 and 2967; 11x11 stride 4 to 96 513 and 1736; 3x3 to 64 1473 and 1564.
"""

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
