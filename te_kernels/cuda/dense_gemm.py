"""Fully connected layers of larger batches as tiled products: weights are read once for ``bm`` rows of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda import _gemm, _occupancy
from te_kernels.cuda._base import GpuVariant, element_bytes
from te_kernels.cuda._product import ProductVariant, cheapest_first, dense_layouts, reject_few_rows
from te_kernels.cuda._rows import Rows
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.layout import Layout
from te_kernels.task import DenseTask
from te_kernels.variant import Layouts, Reject

_CANDIDATES = 3


@dataclass(frozen=True)
class CudaDenseGemm(ProductVariant):
    """Any layout in, row-major out. Knobs: the layout, the tile, slices in flight, parts of the sum."""

    name = "cuda_dense_gemm"
    family = "dense"
    title = "fully connected, tiled product"
    task_type = DenseTask

    layout: str
    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    stages: int
    splits: int

    @classmethod
    def candidates(cls, task: DenseTask, machine: Gpu) -> Iterator[GpuVariant]:
        """For each layout the tiles that the model likes best."""
        if machine.dtype != FLOAT32:
            raise Reject(f"the network computes in {machine.dtype}, for which there are tensor cores")
        reject_few_rows(task)
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.data_shape) is None:
                yield from cheapest_first(cls._fitting(task, machine, layout), task, machine)[:_CANDIDATES]

    @classmethod
    def _fitting(cls, task: DenseTask, machine: Gpu, layout: str) -> Iterator[CudaDenseGemm]:
        for tile, splits in _occupancy.tiles(machine):
            instance = cls(layout, tile.bm, tile.bn, tile.bk, tile.tm, tile.tn, tile.stages, splits)
            product = instance.program(task).product
            even = _occupancy.copies_evenly(tile, product.a_vector, product.b_vector)
            if even and _occupancy.enough_slices(product, tile):
                yield instance

    @property
    def tile(self) -> _gemm.Tile:
        """The blocking."""
        return _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)

    def program(self, task: DenseTask) -> Rows:
        """The layer as a product."""
        return Rows(task, self.layouts(task), self.tile, self.splits, FLOAT32)

    def layouts(self, task: DenseTask) -> Layouts:
        """Row-major rows out."""
        return dense_layouts(task, self.layout)

    def model_s(self, task: DenseTask, machine: Gpu) -> float:
        """The product's model."""
        return _occupancy.seconds(self.program(task).product, self.tile, machine, element_bytes(machine))
