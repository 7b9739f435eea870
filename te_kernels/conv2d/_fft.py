"""What the FFT variants share: they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.conv2d import _transformed_geometry as geometry
from te_kernels.conv2d import _transformed_kernel as kernel
from te_kernels.conv2d._fft_transform import FftTransform
from te_kernels.conv2d._tile_transform import UNIT_ROUNDOFF
from te_kernels.conv2d._transformed_model import best_blockings
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject, Variant

#: Sizes of transform: products of 2, 3 and 5, even, since odd ones have more complex frequencies.
_SIZES = (8, 10, 12, 16, 18, 20, 24, 30, 32)
_SHORTEST = 3


@dataclass(frozen=True)
class FftVariant(Variant):
    """Base of the FFT variants. Knobs: ``m`` outputs a tile and axis, the blocking (``_transformed_kernel``)."""

    family = "fft"
    task_type = ConvTask

    data: str
    out: str
    m: int
    tile: int
    vectors: int
    lanes: int
    block: int
    chunk: int

    @classmethod
    def _blocked(cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 3) -> Iterator[FftVariant]:
        longest = max(task.r, task.s)
        if longest < _SHORTEST:
            raise Reject(f"the kernel is {task.r}x{task.s}; below {_SHORTEST} direct or Winograd take fewer operations")
        if task.stride != (1, 1):
            raise Reject(f"the stride is {task.stride}; all outputs would be computed and most thrown away")
        if task.dilation != (1, 1):
            raise Reject(f"the dilation is {task.dilation}; the tiles are dense")
        group_inputs, group_outputs = task.c // task.groups, task.k // task.groups
        lanes = machine.vector_lanes
        if task.groups > 1 and (group_inputs % lanes or group_outputs % lanes):
            raise Reject(f"groups of {group_inputs} and {group_outputs} channels are not whole vectors of {lanes}")
        transforms = []
        for size in _SIZES:
            transform = FftTransform(size - longest + 1, task.r, task.s)
            if transform.m > 1 and all(side == 1 or side in _SIZES for side in transform.window):
                transforms.append(transform)
                if transform.m >= max(task.oh, task.ow):
                    break
        if not transforms:
            raise Reject(f"no transform size of {_SIZES} suits the kernel {task.r}x{task.s}")
        for transform, b in best_blockings(task, machine, transforms, count):
            yield cls(data, out, transform.m, b.tile, b.vectors, b.lanes, b.block, b.chunk)

    def _geometry(self, task: ConvTask) -> geometry.Geometry:
        blocking = geometry.Blocking(self.tile, self.vectors, self.lanes, self.block, self.chunk)
        return geometry.Geometry(task, FftTransform(self.m, task.r, task.s), blocking)

    def error_bound(self, task: ConvTask) -> float:
        """The rounding errors of ``c`` additions and of the transforms."""
        return UNIT_ROUNDOFF * 4.0 * (3.0 + (task.c // task.groups) ** 0.5)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return geometry.pack(self._geometry(task), params)

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        return kernel.prim_func(self._geometry(task), self.layouts(task), machine)

    def workspace_bytes(self, task: ConvTask) -> int:
        return self._geometry(task).workspace_bytes
