"""Implicit-GEMM convolution NCHW on both sides: neighbouring threads gather neighbouring pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv_gemm import ConvGemmVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvGemmNchw(ConvGemmVariant):
    """NCHW -> NCHW."""

    name = "cuda_conv_gemm_nchw"
    title = "implicit matrix product, NCHW -> NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the occupancy model likes best."""
        yield from cls._tiled(task, machine, "NCHW", "NCHW")
