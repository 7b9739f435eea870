"""What the ``conv_gemm`` variants share; they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.cuda import _gemm, _occupancy
from te_kernels.cuda._base import GpuVariant, element_bytes
from te_kernels.cuda._conv import ConvGemm
from te_kernels.cuda._product import ProductVariant, cheapest_first, conv_layouts, reject_thin_groups
from te_kernels.gpu import FLOAT16, Gpu
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts

_CANDIDATES = 4


@dataclass(frozen=True)
class ConvGemmVariant(ProductVariant):
    """Base. Knobs: the layouts, the tile, the slices in flight, and in how many parts the sum is cut."""

    family = "gemm"
    task_type = ConvTask

    data: str
    out: str
    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    stages: int
    splits: int
    dtype: str

    @classmethod
    def _tiled(cls, task: ConvTask, machine: Gpu, data: str, out: str) -> Iterator[GpuVariant]:
        reject_thin_groups(task, data, out)
        chosen: dict[tuple[int, int, int], ConvGemmVariant] = {}
        for instance in cheapest_first(cls._fitting(task, machine, data, out), task, machine):
            # what the model predicts least well is varied: shapes and splits, not stages
            chosen.setdefault((instance.bm, instance.bn, instance.splits), instance)
        yield from list(chosen.values())[:_CANDIDATES]

    @classmethod
    def _fitting(cls, task: ConvTask, machine: Gpu, data: str, out: str) -> Iterator[ConvGemmVariant]:
        for tile, splits in _occupancy.tiles(machine):
            if tile.stages > 1 and machine.dtype == FLOAT16:
                continue  # values are converted on their way to shared memory, which asynchronous copies cannot
            instance = cls(data, out, tile.bm, tile.bn, tile.bk, tile.tm, tile.tn, tile.stages, splits, machine.dtype)
            product = instance.program(task).product
            if splits > 1 and (product.k // splits < 4 * tile.bk or product.batch > 4):
                continue
            even = _occupancy.copies_evenly(tile, product.a_vector, product.b_vector)
            if even and _occupancy.enough_slices(product, tile):
                yield instance

    @property
    def tile(self) -> _gemm.Tile:
        """The blocking."""
        return _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)

    def program(self, task: ConvTask) -> ConvGemm:
        """The convolution as a product."""
        return ConvGemm(task, self.layouts(task), self.tile, self.splits, self.dtype)

    def layouts(self, task: ConvTask) -> Layouts:
        """Epilogue tensors are in the output's layout."""
        return conv_layouts(task, self.data, self.out)

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """The product's model; scattered accesses cost."""
        seconds = _occupancy.seconds(self.program(task).product, self.tile, machine, element_bytes(machine))
        return seconds * (1.0 if self.data == "NHWC" or task.pointwise else 1.1)
