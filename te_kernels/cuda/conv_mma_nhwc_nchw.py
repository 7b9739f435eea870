"""Implicit-GEMM convolution on tensor cores, from NHWC to NCHW."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._mma_variant import ConvMmaVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvMmaNhwcNchw(ConvMmaVariant):
    """NHWC -> NCHW."""

    name = "cuda_conv_mma_nhwc_nchw"
    title = "implicit matrix product on tensor cores, NHWC -> NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the model likes best."""
        yield from cls._tiled(task, machine, "NHWC", "NCHW")
