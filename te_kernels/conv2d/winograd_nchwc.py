"""Winograd convolution, blocked layout in and out.

Loads and stores of the transforms are whole cache lines of one channel block, neighbouring tiles one after the other.
Effective rate (FLOPs of the direct algorithm) over the FMA peak, one thread of a Zen 5 core, AVX-512, 3x3: 64x56x56
2.9, 128x28x28 3.3, 256x14x14 3.3, 512x7x7 1.7 (26 MB of weights from L3), 256x56x56 3.1, 512x28x28 3.3,
128x112x112 3.1, 64x224x224 2.6; 5x5 96x27x27 -> 256 4.4 (4.0 in two groups); 1x7 192x17x17 1.9.
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
