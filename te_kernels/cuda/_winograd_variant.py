"""What the Winograd variants share; they differ only in the layout they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda import _gemm, _occupancy
from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._product import ProductVariant, cheapest_first
from te_kernels.cuda._winograd import Winograd
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

_SIZES = (2, 4)
_CANDIDATES_OF_A_SIZE = 2


@dataclass(frozen=True)
class WinogradVariant(ProductVariant):
    """Base. Knobs: the layout, ``m`` of F(m x m, r x s), the tile of the products and the slices in flight."""

    family = "winograd"
    task_type = ConvTask
    #: That of F(4, 3) from the points 0, 1, -1, 2, -2; from today's it errs less. F(2, 3) has 2e-6.
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
            yield from cheapest_first(cls._fitting(task, machine, layout, m), task, machine)[:_CANDIDATES_OF_A_SIZE]

    @classmethod
    def _fitting(cls, task: ConvTask, machine: Gpu, layout: str, m: int) -> Iterator[WinogradVariant]:
        for tile, splits in _occupancy.tiles(machine):
            if splits > 1 or not _occupancy.copies_evenly(tile, _gemm.RUN, _gemm.RUN):
                continue
            instance = cls(layout, m, tile.bm, tile.bn, tile.bk, tile.tm, tile.tn, tile.stages)
            if _occupancy.enough_slices(instance.program(task).product, tile):
                yield instance

    def program(self, task: ConvTask) -> Winograd:
        """The transforms and the products between them."""
        tile = _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)
        return Winograd(task, self.layouts(task), self.m, tile)

    def layouts(self, task: ConvTask) -> Layouts:
        """The same everywhere."""
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def arithmetic(self, task: ConvTask) -> int:
        """Those of the products, without padding."""
        conv = self.program(task)
        return 2 * conv.positions * conv.tiles * task.c * task.k

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """Its own model."""
        return self.program(task).model_s(machine)
