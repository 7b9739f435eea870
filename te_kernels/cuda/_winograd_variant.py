"""What the Winograd variants share; they differ only in the layout they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.cuda import _gemm, _occupancy
from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._winograd import Winograd
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

_SIZES = (2, 4)
_CANDIDATES_OF_A_SIZE = 2


@dataclass(frozen=True)
class WinogradVariant(GpuVariant):
    """Base. Knobs: the layout, ``m`` of F(m x m, r x s), the tile of the products and the slices in flight."""

    family = "winograd"
    task_type = ConvTask
    #: That of F(4, 3); F(2, 3) has 2e-6.
    relative_error = 5e-5

    layout: str
    m: int
    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    stages: int

    @classmethod
    def _tiled(cls, task: ConvTask, machine: Gpu, layout: str) -> Iterator[GpuVariant]:
        if (task.r, task.s) != (3, 3):
            raise Reject(f"the kernel is {task.r}x{task.s}; the transforms pay for 3x3")
        if task.stride != (1, 1) or task.dilation != (1, 1):
            raise Reject(f"stride {task.stride}, dilation {task.dilation}; minimal filtering needs 1")
        if task.groups > 1:
            raise Reject(f"{task.groups} groups; the products of one are too small to pay for the transforms")
        if task.c < 16 or task.k < 16:
            raise Reject(f"{task.c} to {task.k} channels: the transforms cost more than the products")
        if machine.dtype != FLOAT32:
            raise Reject(f"transformed values lose too much in {machine.dtype}")
        for m in _SIZES:
            scored: list[tuple[float, int, WinogradVariant]] = []
            for tile, splits in _occupancy.tiles(machine):
                if splits > 1 or not _occupancy.copies_evenly(tile, _gemm.RUN, _gemm.RUN):
                    continue
                instance = cls(layout, m, tile.bm, tile.bn, tile.bk, tile.tm, tile.tn, tile.stages)
                if _occupancy.enough_slices(instance._winograd(task).product, tile):
                    scored.append((instance.model_s(task, machine), len(scored), instance))
            scored.sort(key=lambda item: item[:2])
            yield from (instance for _, _, instance in scored[:_CANDIDATES_OF_A_SIZE])

    def _winograd(self, task: ConvTask) -> Winograd:
        tile = _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)
        return Winograd(task, self.layouts(task), self.m, tile)

    def layouts(self, task: ConvTask) -> Layouts:
        """The same everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Transformed weights."""
        return self._winograd(task).pack(params)

    def prim_func(self, task: ConvTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The three kernels."""
        return self._winograd(task).prim_func()

    def arithmetic(self, task: ConvTask) -> int:
        """Those of the products, without padding."""
        conv = self._winograd(task)
        return 2 * conv.positions * conv.tiles * task.c * task.k

    def workspace_bytes(self, task: ConvTask) -> int:
        """Transformed input and products."""
        return self._winograd(task).workspace_bytes()

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """Its own model."""
        return self._winograd(task).model_s(machine)
