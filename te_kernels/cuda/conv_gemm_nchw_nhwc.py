"""Implicit-GEMM convolution from NCHW to NHWC: for layers that read the caller's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv_gemm import ConvGemmVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvGemmNchwNhwc(ConvGemmVariant):
    """NCHW -> NHWC."""

    name = "cuda_conv_gemm_nchw_nhwc"
    title = "implicit matrix product, NCHW -> NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the occupancy model likes best."""
        yield from cls._tiled(task, machine, "NCHW", "NHWC")
