"""Winograd convolution, NHWC in and out.

The transforms touch one cache line per pixel and vector of channels, a pixel's channels apart. Effective rate (FLOPs of
the direct algorithm) over the FMA peak, one thread of a Zen 5 core, AVX-512, 3x3: 64x56x56 2.9, 128x28x28 3.2,
256x14x14 3.2, 512x7x7 1.6, 256x56x56 3.0, 512x28x28 3.2, 128x112x112 3.0, 64x224x224 2.4; 5x5 96x27x27 -> 256 4.4, all
with tiles of at most 6x6. On Zen 4, with tiles of up to 7x7: 3.9, 4.5, 4.0, 1.8, 4.4, 4.3, 3.7, 2.9; 5.3.
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
