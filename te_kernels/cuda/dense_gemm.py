"""Fully connected layers of larger batches as tiled products: weights are read once for ``bm`` rows of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.cuda import _gemm, _occupancy
from te_kernels.cuda._base import GpuVariant, element_bytes
from te_kernels.cuda._rows import Rows
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.layout import Layout
from te_kernels.task import DenseTask
from te_kernels.variant import Layouts, Reject

_SMALLEST_BATCH = 4
_CANDIDATES = 3


@dataclass(frozen=True)
class CudaDenseGemm(GpuVariant):
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
        if task.data_shape[0] < _SMALLEST_BATCH:
            raise Reject(f"a batch of {task.data_shape[0]} leaves tiles mostly empty; cuda_dense streams the weights")
        for layout in (*machine.layouts, "plain"):
            if Layout(layout).reason_cannot_hold(task.data_shape) is not None:
                continue
            scored: list[tuple[float, int, CudaDenseGemm]] = []
            for tile, splits in _occupancy.tiles(machine):
                instance = cls(layout, tile.bm, tile.bn, tile.bk, tile.tm, tile.tn, tile.stages, splits)
                product = instance._rows(task).product
                even = _occupancy.copies_evenly(tile, product.a_vector, product.b_vector)
                if even and _occupancy.enough_slices(product, tile):
                    scored.append((instance.model_s(task, machine), len(scored), instance))
            scored.sort(key=lambda item: item[:2])
            yield from (instance for _, _, instance in scored[:_CANDIDATES])

    def _rows(self, task: DenseTask) -> Rows:
        tile = _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)
        return Rows(task, self.layouts(task), tile, self.splits, FLOAT32)

    def layouts(self, task: DenseTask) -> Layouts:
        """Row-major rows out; the epilogue's tensors are such rows as well."""
        return Layouts((self.layout,) + ("plain",) * (len(task.input_shapes) - 1), "plain")

    def pack(self, task: DenseTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Transposed weights in whole tiles."""
        return self._rows(task).pack(params)

    def prim_func(self, task: DenseTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel."""
        return self._rows(task).prim_func()

    def workspace_bytes(self, task: DenseTask) -> int:
        """Partial sums."""
        rows = self._rows(task)
        return rows.product.partial_bytes(rows.tile)

    def model_s(self, task: DenseTask, machine: Gpu) -> float:
        """The product's model."""
        tile = _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)
        return _occupancy.seconds(self._rows(task).product, tile, machine, element_bytes(machine))
