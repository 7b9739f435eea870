"""What the variants on ``_gemm`` share: they differ in layout, in what they read from and in where they apply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.conv2d import _gemm as algorithm
from te_kernels.conv2d import _output_stationary as direct
from te_kernels.conv2d._flat import flattened, on_map
from te_kernels.conv2d._output_geometry import Geometry, Tile
from te_kernels.conv2d._tile_model import best_tiles
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class ChannelGemmVariant(Variant):
    """Base: one layout in and out. Knobs: register tile, block of the reduction, flat view, form (see ``_gemm``)."""

    task_type = ConvTask
    relative_error = 2e-5

    layout: str
    rows: int
    pixels: int
    vectors: int
    lanes: int
    chunk: int
    flat: bool
    form: str

    @classmethod
    def _blocked(cls, task: ConvTask, machine: Machine, layout: str) -> Iterator[ChannelGemmVariant]:
        """Candidates that cut the reduction, where the weights of a tile would crowd L2."""
        if task.depthwise:
            raise Reject("depthwise: the reduction has one channel, there is nothing to cut")
        per_group, lanes = task.k // task.groups, machine.vector_lanes
        if task.groups > 1 and layout != "NHWC" and per_group % lanes:
            raise Reject(f"{per_group} output channels a group are not a multiple of the block {lanes} of {layout}")
        slice_bytes = 4 * 2 * lanes * task.c // task.groups * task.r * task.s
        input_bytes = min(4 * task.c * task.h * task.w, machine.l2_bytes * 3 // 8)  # larger ones are cut into rows
        if slice_bytes + input_bytes <= machine.l2_bytes // 4 * 3:
            raise Reject(
                f"the weights of two vectors of channels take {slice_bytes} bytes: L2 holds them uncut beside the input"
            )
        for tile, flat in fitting_tiles(task, machine):
            chunk = chunk_within(Geometry(task, tile), machine.l2_bytes // 8)
            yield cls(layout, tile.rows, tile.pixels, tile.vectors, tile.lanes, chunk, flat, "direct")

    @classmethod
    def _form(cls, task: ConvTask, machine: Machine, layout: str, form: str) -> Iterator[ChannelGemmVariant]:
        """Candidates of the im2row or kn2 form, where the layout can hold the groups."""
        per_group, lanes = task.k // task.groups, machine.vector_lanes
        if task.groups > 1 and layout != "NHWC" and per_group % lanes:
            raise Reject(f"{per_group} output channels a group are not a multiple of the block {lanes} of {layout}")
        for tile, _ in fitting_tiles(task, machine):
            geometry = Geometry(task, tile)
            blocks = task.c // task.groups // geometry.reduction_block
            chunk = blocks if form == "kn2" else chunk_within(geometry, machine.l2_bytes // 4)
            yield cls(layout, tile.rows, tile.pixels, tile.vectors, tile.lanes, chunk, False, form)

    def _plan(self, task: ConvTask) -> algorithm.Plan:
        tile = Tile(self.rows, self.pixels, self.vectors, self.lanes)
        geometry = Geometry(flattened(task) if self.flat else task, tile)
        return algorithm.Plan(geometry, self.layout, self.chunk, self.form)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        return direct.pack(self._plan(task).geometry, params)

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        func = algorithm.prim_func(self._plan(task), self.layouts(task), machine)
        return on_map(func, task, self.layouts(task)) if self.flat else func

    def workspace_bytes(self, task: ConvTask, threads: int = 1) -> int:
        return algorithm.workspace_bytes(self._plan(task))


def fitting_tiles(task: ConvTask, machine: Machine) -> list[tuple[Tile, bool]]:
    """The best tiles, of those that end where a group of output channels ends."""
    per_group = task.k // task.groups
    tiles = best_tiles(task, machine, 2)
    if task.groups > 1 and per_group > machine.vector_lanes:
        tiles = [(tile, flat) for tile, flat in tiles if per_group % (tile.vectors * tile.lanes) == 0]
    if not tiles:
        raise Reject(f"{per_group} output channels in each of {task.groups} groups are no whole register tiles")
    return tiles


def chunk_within(geometry: Geometry, limit_bytes: int) -> int:
    """Reduction blocks in one chunk: a divisor of them whose weights for one tile take at most ``limit_bytes``."""
    t, tile = geometry.task, geometry.tile
    blocks = t.c // t.groups // geometry.reduction_block
    block_bytes = 4 * geometry.reduction_block * t.r * t.s * tile.vectors * tile.lanes
    return max(d for d in range(1, blocks + 1) if blocks % d == 0 and (d == 1 or d * block_bytes <= limit_bytes))
