"""What the winograd, fft and strassen variants share: everything but the transform and where it applies."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tvm

from te_kernels.conv2d import _transformed_kernel as kernel
from te_kernels.conv2d._transformed_geometry import Blocking, Geometry
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Variant


@dataclass(frozen=True)
class TransformedVariant(Variant):
    """Base. Knobs: the layouts and the blocking (``_transformed_geometry``); subclasses add those of the transform."""

    task_type = ConvTask
    tiles: ClassVar[kernel.Tiles] = kernel.Tiles()

    data: str
    out: str
    tile: int
    vectors: int
    lanes: int
    block: int
    chunk: int

    @abstractmethod
    def geometry(self, task: ConvTask) -> Geometry:
        """Loop bounds of the task under this instance's transform and blocking."""

    @property
    def _blocking(self) -> Blocking:
        return Blocking(self.tile, self.vectors, self.lanes, self.block, self.chunk)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return self.geometry(task).pack(params)

    def packed_bytes(self, task: ConvTask) -> int:
        geometry = self.geometry(task)
        return geometry.weight_bytes + 4 * geometry.padded_constants * (len(task.param_shapes) - 1)

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        layouts, tiles = self.tiled(task)
        return kernel.prim_func(self.geometry(task), layouts, machine, tiles)

    def tiled(self, task: ConvTask) -> tuple[Layouts, kernel.Tiles]:
        """Layouts of what tiles are cut from and of the result, and what emits the tiles."""
        return self.layouts(task), self.tiles

    def arithmetic(self, task: ConvTask) -> int:
        return self.geometry(task).product_flops

    def workspace_bytes(self, task: ConvTask, threads: int = 1) -> int:
        return self.geometry(task).workspace_bytes(threads)
