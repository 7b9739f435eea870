"""Winograd convolution, NHWC on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._winograd_variant import WinogradVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNhwc(WinogradVariant):
    """NHWC -> NHWC."""

    name = "cuda_winograd_nhwc"
    title = "Winograd in three kernels, NHWC"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """F(2) and F(4), with the tiles that the model likes best."""
        yield from cls._tiled(task, machine, "NHWC")
