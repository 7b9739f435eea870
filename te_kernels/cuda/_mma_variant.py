"""What the ``conv_mma`` variants share; they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.cuda import _mma, _mma_model
from te_kernels.cuda._base import GpuVariant
from te_kernels.cuda._conv import ConvGemm
from te_kernels.gpu import FLOAT16, Gpu
from te_kernels.layout import Layout
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject

_CANDIDATES = 4


@dataclass(frozen=True)
class ConvMmaVariant(GpuVariant):
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
        if task.depthwise:
            raise Reject(f"depthwise ({task.groups} groups of one channel): products of one row; cuda_direct covers it")
        for name, channels in ((data, task.c // task.groups), (out, task.k // task.groups)):
            block = Layout(name).block
            if task.groups > 1 and block and channels % block:
                raise Reject(f"groups of {channels} channels are not whole blocks of {name}")
        scored: list[tuple[float, int, ConvMmaVariant]] = []
        for tile, splits in _mma_model.tiles(machine):
            instance = cls(data, out, tile.bm, tile.bn, tile.bk, tile.wm, tile.wn, tile.stages, splits)
            if _mma_model.fits(instance._conv(task).product, tile, machine):
                scored.append((instance.model_s(task, machine), len(scored), instance))
        scored.sort(key=lambda item: item[:2])
        chosen: dict[tuple[int, int, int], ConvMmaVariant] = {}
        for _, _, instance in scored:
            chosen.setdefault((instance.bm, instance.bn, instance.splits), instance)
        yield from list(chosen.values())[:_CANDIDATES]

    @property
    def tile(self) -> _mma.WarpTile:
        """The blocking."""
        return _mma.WarpTile(self.bm, self.bn, self.bk, self.wm, self.wn, self.stages)

    def _conv(self, task: ConvTask) -> ConvGemm:
        return ConvGemm(task, self.layouts(task), self.tile, self.splits, FLOAT16)

    def layouts(self, task: ConvTask) -> Layouts:
        """Epilogue tensors are in the output's layout."""
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as padded matrices in float16."""
        return self._conv(task).pack(params)

    def prim_func(self, task: ConvTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel."""
        return self._conv(task).prim_func()

    def workspace_bytes(self, task: ConvTask) -> int:
        """Partial sums."""
        return self._conv(task).product.partial_bytes(self.tile)

    def model_s(self, task: ConvTask, machine: Gpu) -> float:
        """The product's model."""
        return _mma_model.seconds(self._conv(task).product, self.tile, machine)
