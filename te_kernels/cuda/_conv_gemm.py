"""What the ``conv_gemm`` variants share; they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.cuda import _gemm, _occupancy
from te_kernels.cuda._base import GpuVariant, element_bytes
from te_kernels.cuda._conv import ConvGemm
from te_kernels.gpu import FLOAT16, Gpu
from te_kernels.layout import Layout
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

_CANDIDATES = 4


@dataclass(frozen=True)
class ConvGemmVariant(GpuVariant):
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
        if task.depthwise:
            raise Reject(f"depthwise ({task.groups} groups of one channel): products of one row; cuda_direct covers it")
        for name, channels in ((data, task.c // task.groups), (out, task.k // task.groups)):
            block = Layout(name).block
            if task.groups > 1 and block and channels % block:
                raise Reject(f"groups of {channels} channels are not whole blocks of {name}")
        scored: list[tuple[float, int, ConvGemmVariant]] = []
        for tile, splits in _occupancy.tiles(machine):
            instance = cls(data, out, tile.bm, tile.bn, tile.bk, tile.tm, tile.tn, tile.stages, splits, machine.dtype)
            if tile.stages > 1 and machine.dtype == FLOAT16:
                continue  # values are converted on their way to shared memory, which asynchronous copies cannot
            product = instance._conv(task).product
            if splits > 1 and (product.k // splits < 4 * tile.bk or product.batch > 4):
                continue
            even = _occupancy.copies_evenly(tile, product.a_vector, product.b_vector)
            if not even or not _occupancy.enough_slices(product, tile):
                continue
            scored.append((instance.model_s(task, machine), len(scored), instance))
        scored.sort(key=lambda item: item[:2])
        chosen: list[ConvGemmVariant] = []
        for _, _, instance in scored:  # what the model predicts least well is varied: shapes and splits, not stages
            key = (instance.bm, instance.bn, instance.splits)
            if key not in [(c.bm, c.bn, c.splits) for c in chosen]:
                chosen.append(instance)
            if len(chosen) == _CANDIDATES:
                break
        yield from chosen

    @property
    def tile(self) -> _gemm.Tile:
        """The blocking."""
        return _gemm.Tile(self.bm, self.bn, self.bk, self.tm, self.tn, self.stages)

    def _conv(self, task: ConvTask) -> ConvGemm:
        return ConvGemm(task, self.layouts(task), self.tile, self.splits, self.dtype)

    def layouts(self, task: ConvTask) -> Layouts:
        """Epilogue tensors are in the output's layout."""
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as padded matrices."""
        return self._conv(task).pack(params)

    def prim_func(self, task: ConvTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel."""
        return self._conv(task).prim_func()

    def workspace_bytes(self, task: ConvTask) -> int:
        """Partial sums."""
        return self._conv(task).product.partial_bytes(self.tile)

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """The product's model; scattered accesses cost."""
        seconds = _occupancy.seconds(self._conv(task).product, self.tile, machine, element_bytes(machine))
        return seconds * (1.0 if self.data == "NHWC" or task.pointwise else 1.1)
