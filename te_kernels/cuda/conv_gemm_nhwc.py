"""Implicit-GEMM convolution NHWC on both sides: slices of channels in 16-byte copies, rows of channels stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv_gemm import ConvGemmVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvGemmNhwc(ConvGemmVariant):
    """NHWC -> NHWC."""

    name = "cuda_conv_gemm_nhwc"
    title = "implicit matrix product, NHWC -> NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the occupancy model likes best."""
        yield from cls._tiled(task, machine, "NHWC", "NHWC")
