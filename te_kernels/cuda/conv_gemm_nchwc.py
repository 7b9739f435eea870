"""Implicit-GEMM convolution blocked on both sides (NCHW4c; in half NCHW8c): a block is one copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv_gemm import ConvGemmVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvGemmNchwc(ConvGemmVariant):
    """NCHW<b>c -> NCHW<b>c."""

    name = "cuda_conv_gemm_nchwc"
    title = "implicit matrix product, NCHW<b>c -> NCHW<b>c"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the occupancy model likes best."""
        yield from cls._tiled(task, machine, machine.blocked_layout, machine.blocked_layout)
