"""FFT convolution by tiles, blocked layout in, NHWC out.

Changing the layout costs nothing: the transforms read and write vectors of channels either way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._fft import FftVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class FftNCHWcToNHWC(FftVariant):
    """NCHW<V>c -> NHWC, V the vector length of the target."""

    name = "fft_nchwc_nhwc"
    title = "FFT by tiles, blocked layout in, NHWC out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[FftVariant]:
        """Best sizes and blockings by the model."""
        return cls._blocked(task, machine, machine.blocked_layout, "NHWC")
