"""Winograd convolution, NCHW on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._winograd_variant import WinogradVariant
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask


@dataclass(frozen=True)
class WinogradNchw(WinogradVariant):
    """NCHW -> NCHW."""

    name = "cuda_winograd_nchw"
    title = "Winograd in three kernels, NCHW"

    @classmethod
    def candidates(cls, task: ConvTask, machine: Gpu) -> Iterator[GpuVariant]:
        """F(2) and F(4), with the tiles that the model likes best."""
        yield from cls._tiled(task, machine, "NCHW")
