"""FFT convolution by tiles, NHWC in, blocked layout out.

Changing the layout costs nothing: the transforms read and write vectors of channels either way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d._fft import FftVariant
from te_kernels.machine import Machine
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class FftNHWCToNCHWc(FftVariant):
    """NHWC -> NCHW<V>c, V the vector length of the target."""

    name = "fft_nhwc_nchwc"
    title = "FFT by tiles, NHWC in, blocked layout out"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[FftVariant]:
        """Best sizes and blockings by the model."""
        return cls._blocked(task, machine, "NHWC", machine.blocked_layout)
