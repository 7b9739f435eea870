"""Fully connected layers of larger batches on tensor cores: weights are read once for ``bm`` rows of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda import _mma, _mma_model
from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._product import ProductVariant, cheapest_first, dense_layouts, reject_few_rows
from te_kernels.cuda._rows import Rows
from te_kernels.gpu import FLOAT16, Gpu
from te_kernels.layout import Layout
from te_kernels.task import DenseTask
from te_kernels.variant import Layouts, Reject

_CANDIDATES = 3


@dataclass(frozen=True)
class CudaDenseMma(ProductVariant):
    """Any layout in, row-major out. Knobs: the layout, the tile, slices in flight, parts of the sum."""

    name = "cuda_dense_mma"
    family = "dense"
    title = "fully connected, on tensor cores"
    task_type = DenseTask
    #: Rounding of operands and result to float16.
    relative_error = 2e-3

    layout: str
    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    stages: int
    splits: int

    @classmethod
    def candidates(cls, task: DenseTask, machine: Gpu) -> Iterator[GpuVariant]:
        """For each layout the tiles that the model likes best."""
        if machine.dtype != FLOAT16:
            raise Reject(f"the network computes in {machine.dtype}; tensor cores take float16")
        reject_few_rows(task)
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.data_shape) is not None:
                continue
            tiles = _mma_model.tiles(machine)
            instances = [cls(layout, t.bm, t.bn, t.bk, t.wm, t.wn, t.stages, splits) for t, splits in tiles]
            fitting = [i for i in instances if _mma_model.fits(i.program(task).product, i.tile, machine)]
            yield from cheapest_first(fitting, task, machine)[:_CANDIDATES]

    @property
    def tile(self) -> _mma.WarpTile:
        """The blocking."""
        return _mma.WarpTile(self.bm, self.bn, self.bk, self.wm, self.wn, self.stages)

    def program(self, task: DenseTask) -> Rows:
        """The layer as a product."""
        return Rows(task, self.layouts(task), self.tile, self.splits, FLOAT16)

    def layouts(self, task: DenseTask) -> Layouts:
        """Row-major rows out."""
        return dense_layouts(task, self.layout)

    def model_s(self, task: DenseTask, machine: Gpu) -> float:
        """The product's model."""
        return _mma_model.seconds(self.program(task).product, self.tile, machine)
