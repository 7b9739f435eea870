"""Implicit-GEMM convolution on tensor cores, NHWC on both sides: channels in 16-byte copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._mma_variant import ConvMmaVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class ConvMmaNhwc(ConvMmaVariant):
    """NHWC -> NHWC."""

    name = "cuda_conv_mma_nhwc"
    title = "implicit matrix product on tensor cores, NHWC -> NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The tiles that the model likes best."""
        yield from cls._tiled(task, machine, "NHWC", "NHWC")
