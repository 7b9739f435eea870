"""Implicit-GEMM convolution on tensor cores, blocked on both sides: a block of 8 channels is one 16-byte copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._mma_variant import ConvMmaVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvMmaNchwc(ConvMmaVariant):
    """NCHW<b>c -> NCHW<b>c."""

    name = "cuda_conv_mma_nchwc"
    title = "implicit matrix product on tensor cores, NCHW<b>c -> NCHW<b>c"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the model likes best."""
        yield from cls._tiled(task, machine, machine.blocked_layout, machine.blocked_layout)
