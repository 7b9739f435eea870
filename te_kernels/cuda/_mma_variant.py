"""What the ``conv_mma`` variants share; they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda import _mma, _mma_model
from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv import ConvGemm
from te_kernels.cuda._product import ProductVariant, cheapest_first, conv_layouts, reject_thin_groups
from te_kernels.gpu import FLOAT16, Gpu
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

_CANDIDATES = 4


@dataclass(frozen=True)
class ConvMmaVariant(ProductVariant):
    """Base. Knobs: the layouts, the tile, fragments of a warp, slices in flight, parts of the sum."""

    family = "gemm"
    task_type = ConvTask
    #: Rounding of operands and result to float16.
    relative_error = 2e-3

    data: str
    out: str
    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    stages: int
    splits: int

    @classmethod
    def _tiled(cls, task: ConvTask, machine: Gpu, data: str, out: str) -> Iterator[GpuVariant]:
        if machine.dtype != FLOAT16:
            raise Reject(f"the network computes in {machine.dtype}; tensor cores take float16")
        reject_thin_groups(task, data, out)
        tiles = _mma_model.tiles(machine)
        instances = (cls(data, out, t.bm, t.bn, t.bk, t.wm, t.wn, t.stages, splits) for t, splits in tiles)
        fitting = (i for i in instances if _mma_model.fits(i.program(task).product, i.tile, machine))
        chosen: dict[tuple[int, int, int], ConvMmaVariant] = {}
        for instance in cheapest_first(fitting, task, machine):
            chosen.setdefault((instance.bm, instance.bn, instance.splits), instance)
        yield from list(chosen.values())[:_CANDIDATES]

    @property
    def tile(self) -> _mma.WarpTile:
        """The blocking."""
        return _mma.WarpTile(self.bm, self.bn, self.bk, self.wm, self.wn, self.stages)

    def program(self, task: ConvTask) -> ConvGemm:
        """The convolution as a product."""
        return ConvGemm(task, self.layouts(task), self.tile, self.splits, FLOAT16)

    def layouts(self, task: ConvTask) -> Layouts:
        """Epilogue tensors are in the output's layout."""
        return conv_layouts(task, self.data, self.out)

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """The product's model."""
        return _mma_model.seconds(self.program(task).product, self.tile, machine)
