"""What the direct convolution variants share: they differ only in the layouts they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.conv2d import _output_stationary as algorithm
from te_kernels.conv2d._flat import flattened, on_map
from te_kernels.conv2d._output_geometry import Geometry, Tile
from te_kernels.conv2d._tile_model import best_tiles
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class DirectVariant(Variant):
    """Base of the direct variants. Knobs: the register tile (see ``_output_stationary``) and the layouts."""

    family = "direct"
    task_type = ConvTask
    relative_error = 2e-5

    data: str
    out: str
    rows: int
    pixels: int
    vectors: int
    lanes: int
    flat: bool

    @classmethod
    def _tiled(cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 2) -> Iterator[DirectVariant]:
        if task.depthwise:
            raise Reject(f"depthwise ({task.groups} groups of one channel): the depthwise variants cover it")
        per_group = task.k // task.groups
        if task.groups > 1 and out != "NHWC" and per_group % machine.vector_lanes:
            raise Reject(
                f"{per_group} output channels a group are not a multiple of the block {machine.vector_lanes} of {out}"
            )
        if task.groups > 1 and per_group > machine.vector_lanes and per_group % machine.vector_lanes:
            raise Reject(f"{per_group} output channels a group are more than one vector, and not whole vectors")
        for tile, flat in best_tiles(task, machine, count):
            yield cls(data, out, tile.rows, tile.pixels, tile.vectors, tile.lanes, flat)

    def _geometry(self, task: ConvTask) -> Geometry:
        tile = Tile(self.rows, self.pixels, self.vectors, self.lanes)
        return Geometry(flattened(task) if self.flat else task, tile)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return algorithm.pack(self._geometry(task), params)

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        func = algorithm.prim_func(self._geometry(task), self.layouts(task), machine)
        return on_map(func, task, self.layouts(task)) if self.flat else func

    def workspace_bytes(self, task: ConvTask, threads: int = 1) -> int:
        return algorithm.workspace_bytes(self._geometry(task))
