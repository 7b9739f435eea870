"""The textbook loop nest, a thread for each output: the baseline of speed-ups, in the caller's layout only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda.direct import CudaDirect
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class CudaSum2d(CudaDirect):
    """NCHW, any convolution."""

    name = "cuda_sum2d"
    family = "sum2d"
    title = "textbook loop nest (baseline)"
    relative_error = 1e-4  # one chain of additions

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """Always applies."""
        yield cls("NCHW")
