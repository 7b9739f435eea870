"""Implicit-GEMM convolution from NHWC to NCHW: the last layer of a run in NHWC writes what the caller wants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv_gemm import ConvGemmVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvGemmNhwcNchw(ConvGemmVariant):
    """NHWC -> NCHW."""

    name = "cuda_conv_gemm_nhwc_nchw"
    title = "implicit matrix product, NHWC -> NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the occupancy model likes best."""
        yield from cls._tiled(task, machine, "NHWC", "NCHW")
