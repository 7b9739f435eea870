"""Transposes between NCHW and NHWC through shared memory.

    for image, tile of 32 channels x 32 pixels:           blockIdx
      tile[32, 32 + 1] = data                             rows along the source
      out = tile                                          rows along the destination

Both sides are read and written in whole rows of a warp; the odd row length keeps the columns of the tile in different
banks (Ruetsch and Micikevicius, "Optimizing Matrix Transpose in CUDA", 2009).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.cuda._base import GpuVariant, element_bytes, streaming_s
from te_kernels.cuda._builder import block, guarded
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import TransformTask
from te_kernels.variant import Layouts, Reject

_TILE, _ROWS = 32, 8


@dataclass(frozen=True)
class CudaTransformShared(GpuVariant):
    """NCHW and NHWC. No knobs."""

    name = "cuda_transform_shared"
    family = "transform"
    title = "transpose through shared memory"
    task_type = TransformTask
    relative_error = 0.0

    @classmethod
    def candidates(cls, task: TransformTask, machine: Gpu) -> Iterator[GpuVariant]:
        """The one instance."""
        if {task.source, task.destination} != {"NCHW", "NHWC"}:
            raise Reject(f"{task.source} -> {task.destination} is no transpose of channels and pixels")
        if min(task.shape[1], task.shape[2] * task.shape[3]) < _TILE // 4:
            raise Reject(f"{task.shape[1]} channels of {task.shape[2] * task.shape[3]} pixels leave tiles mostly empty")
        yield cls()

    def layouts(self, task: TransformTask) -> Layouts:
        """The task's own."""
        return Layouts((task.source,), task.destination)

    def prim_func(self, task: TransformTask, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernel; rows and columns are those of the source."""
        n, channels, h, w = task.shape
        rows, columns = (channels, h * w) if task.source == "NCHW" else (h * w, channels)
        row_tiles, column_tiles = -(-rows // _TILE), -(-columns // _TILE)
        padded = (n, row_tiles * _TILE, column_tiles * _TILE)

        def where(layout: str, image: object, row: object, column: object) -> tuple[object, ...]:
            c, p = (row, column) if task.source == "NCHW" else (column, row)
            return Layout(layout).physical_index(image, c, p // w, p % w)  # type: ignore[operator]

        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            source, destination = (Layout(name).physical_shape(task.shape) for name in (task.source, task.destination))
            data = T.arg("data", T.buffer(source, machine.dtype))
            out = T.arg("out", T.buffer(destination, machine.dtype))
            tile = T.sblock_alloc_buffer(padded, machine.dtype, scope="shared")
            with block("tile", *padded) as (image, i, j):
                inside = [*([i < rows] if rows % _TILE else []), *([j < columns] if columns % _TILE else [])]
                value = data[where(task.source, image, i, j)]
                if inside:
                    value = tirx.if_then_else(tirx.all(*inside), value, tirx.const(0.0, machine.dtype))
                T.buffer_store(tile, value, [image, i, j])
            with block("out", n, padded[2], padded[1]) as (image, j, i):
                inside = [*([i < rows] if rows % _TILE else []), *([j < columns] if columns % _TILE else [])]
                with guarded(inside):
                    T.buffer_store(out, tile[image, i, j], list(where(task.destination, image, i, j)))
        sch = tvm.s_tir.Schedule(builder.get())
        copy, out_block = sch.get_sblock("tile"), sch.get_sblock("out")
        image, j, i = sch.get_loops(out_block)
        j_tile, j_far, j_row = sch.split(j, [None, _TILE // _ROWS, _ROWS])
        i_tile, i_lane = sch.split(i, [None, _TILE])
        sch.reorder(image, j_tile, i_tile, j_row, i_lane, j_far)
        tiles = sch.fuse(image, j_tile, i_tile)
        sch.bind(tiles, "blockIdx.x")
        sch.bind(j_row, "threadIdx.y")
        sch.bind(i_lane, "threadIdx.x")
        sch.unroll(j_far)
        sch.compute_at(copy, tiles, preserve_unit_loops=True)
        *_, i, j = sch.get_loops(copy)
        i_far, i_row = sch.split(i, [None, _ROWS])
        sch.bind(i_row, "threadIdx.y")
        sch.bind(j, "threadIdx.x")
        sch.unroll(i_far)
        sch.storage_align(copy, 0, axis=-2, factor=_TILE, offset=1)
        return sch.mod["main"]

    def model_s(self, task: TransformTask, machine: Gpu) -> float:
        """A copy, nearly."""
        return streaming_s(1.2 * task.bytes_moved // 4 * element_bytes(machine), machine)
