"""Winograd convolution, NHWC in, blocked layout out.

Changing the layout costs nothing: the transforms read and write vectors of channels either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNHWCtoNCHWc(WinogradVariant):
    """NHWC -> NCHW<V>c, V the vector length of the target."""

    name = "winograd_nhwc_nchwc"
    title = "Winograd, NHWC in, blocked layout out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[WinogradVariant]:
        """Best blockings by the model."""
        return cls._blocked(task, machine, "NHWC", machine.blocked_layout)
