"""What the Winograd variants share: they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.conv2d import _winograd_geometry as geometry
from te_kernels.conv2d import _winograd_kernel as kernel
from te_kernels.conv2d._winograd_model import best_blockings
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class WinogradVariant(Variant):
    """Base of the Winograd variants. Knobs: ``m`` of F(m x m, r x r) and the blocking (``_winograd_kernel``)."""

    family = "winograd"
    task_type = ConvTask
    #: F(2,3) stays below 2e-6, F(4,3) below 2e-5 at 512 channels; see the tests.
    relative_error = 1e-4

    data: str
    out: str
    m: int
    tile: int
    vectors: int
    lanes: int
    block: int
    chunk: int

    @classmethod
    def _blocked(
        cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 2
    ) -> Iterator[WinogradVariant]:
        if (task.r, task.s) != (3, 3):
            raise Reject(f"the kernel is {task.r}x{task.s}; this variant covers 3x3")
        if task.stride != (1, 1):
            raise Reject(f"the stride is {task.stride}; minimal filtering needs 1")
        if task.dilation != (1, 1):
            raise Reject(f"the dilation is {task.dilation}; the tiles are dense")
        if task.groups != 1:
            raise Reject(f"groups is {task.groups}; only 1 is supported")
        if task.c < machine.vector_lanes // 2:
            raise Reject(f"{task.c} input channels fill less than half a vector of {machine.vector_lanes}")
        for b in best_blockings(task, machine, (2, 4), count):
            yield cls(data, out, b.m, b.tile, b.vectors, b.lanes, b.block, b.chunk)

    def _geometry(self, task: ConvTask) -> geometry.Geometry:
        blocking = geometry.Blocking(self.m, self.tile, self.vectors, self.lanes, self.block, self.chunk)
        return geometry.Geometry(task, blocking)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return geometry.pack(self._geometry(task), params)

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        return kernel.prim_func(self._geometry(task), self.layouts(task), machine)

    def workspace_bytes(self, task: ConvTask) -> int:
        return self._geometry(task).workspace_bytes
