"""Winograd convolution, blocked layout in and out.

Loads and stores of the transforms are whole cache lines of one channel block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._winograd import WinogradVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNCHWc(WinogradVariant):
    """NCHW<V>c -> NCHW<V>c, V the vector length of the target."""

    name = "winograd_nchwc"
    title = "Winograd, blocked layout in and out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[WinogradVariant]:
        """Best blockings by the model."""
        return cls._blocked(task, machine, machine.blocked_layout, machine.blocked_layout)
