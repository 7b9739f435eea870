"""Winograd convolution, NHWC in and out.

The transforms touch one cache line per pixel and vector of channels, a pixel's channels apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNHWC(WinogradVariant):
    """NHWC -> NHWC."""

    name = "winograd_nhwc"
    title = "Winograd, NHWC in and out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[WinogradVariant]:
        """Best blockings by the model."""
        return cls._blocked(task, machine, "NHWC", "NHWC")
