"""A convolution by Winograd's minimal filtering and the max pool behind it, of which what lies between stays in L2.

The convolutions in front of a pool have the largest maps of a network, which no cache near a core holds: what they
write is fetched from afar before and read back after. Here it goes to a band of a few rows, the same for each block of
tiles, and from there into the maxima (``te_kernels.conv2d._transformed_kernel`` for all up to the band):

    for band of blocks:                                      parallel
      for block of whole rows of tiles:
        V = B d
        for chunk of output channels:
          M = V U; band = e1(A M)
          for row of output with a window in the block:      out = max(out where the block before has begun it, band)

Maxima may be taken in parts, so a window that two blocks share needs nothing but the output, which the first one leaves
in L1. One shared by two threads' bands of blocks goes to a row beside; these rows join the output at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d import _transformed_kernel as kernel
from te_kernels.conv2d._buffers import flat, vector_registers, workspace
from te_kernels.conv2d._map_tiles import FeatureMap, OutputTile, guarded
from te_kernels.conv2d._transformed_tiles import tile_position
from te_kernels.conv2d_pair._max_windows import LOWEST
from te_kernels.conv2d_pair._winograd_pool_geometry import PoolGeometry
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.variant import Layouts


def prim_func(geometry: PoolGeometry, layouts: Layouts, machine: Machine, tiles: kernel.Tiles) -> tvm.tirx.PrimFunc:
    """The kernel; ``geometry.conv`` is of the convolution that the tiles' source makes."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        _Emitter(geometry, layouts, machine, tiles).emit()
    return builder.get()


class _Emitter(kernel.Emitter):
    def __init__(self, geometry: PoolGeometry, layouts: Layouts, machine: Machine, tiles: kernel.Tiles) -> None:
        super().__init__(geometry.conv, layouts, machine, tiles)
        self.p, self.pool = geometry, geometry.pool
        self.band = _Band(geometry)
        self.pooled = FeatureMap(self.out_layout, self.t.k, self.pool.oh, self.pool.ow, self.b.lanes)

    @property
    def _out_shape(self) -> tuple[int, ...]:
        return self.pool.output_shape

    def _output(self, out: Any, tensors: list[Any], constants: list[Any]) -> Any:
        self.out, self.band.constants = flat(out), constants
        return self.band

    def _work(self) -> None:
        g, p, (outer, inner) = self.g, self.p, self._input_loops
        if g.blocks == 1:
            transformed = workspace(g.transformed_floats)
            with T.parallel(0, outer * inner) as index:
                self._input_tiles(transformed, 0, index // inner, index % inner)
            with T.parallel(0, g.chunks) as chunk:
                self.band.allocate()
                self._chunk_of_rows(transformed, 0, chunk, 0, 0, 0)
            return
        bands = p.bands(self.machine.threads)
        share, beside_floats = p.band_blocks(bands), p.beside_floats(bands)
        beside = workspace(beside_floats) if beside_floats else None
        with T.parallel(0, g.task.n * bands) as unit:
            image, number = T.Bind(unit // bands), T.Bind(unit % bands)
            transformed = workspace(g.transformed_floats)
            self.band.allocate()
            first = T.Bind(number * share)
            with T.serial(0, tirx.max(tirx.min(share, p.image_blocks - first), 0)) as i:
                block = T.Bind(image * p.image_blocks + first + i)
                with T.serial(0, outer) as o, T.serial(0, inner) as j:
                    self._input_tiles(transformed, block, o, j)
                with T.serial(0, g.chunks) as chunk:
                    begins = T.Bind(tirx.Select(tirx.all(i == 0, number > 0), 1, 0)) if beside is not None else 0
                    self._chunk_of_rows(transformed, block, chunk, image, first + i, begins, beside, unit)
        if beside is not None:
            self._join(beside, bands, share)

    def _chunk_of_rows(
        self, transformed: Any, block: Any, chunk: Any, image: Any, number: Any, begins: Any,
        beside: Any = None, unit: Any = 0,
    ) -> None:  # fmt: skip
        """One chunk of output channels of block ``number`` of an image, through the pool.

        ``begins``: whether the windows that the block before has begun are another thread's.
        """
        p, pool, b = self.p, self.pool, self.b
        first_vector = T.Bind(chunk * (b.chunk * b.vectors))
        start = T.Bind(number * p.block_rows)
        end = T.Bind(tirx.min(start + p.block_rows, self.t.oh))
        self.band.place(start, first_vector)
        self._chunk(transformed, block, chunk)
        first_row = T.Bind(p.first_row(start))
        last_row = tirx.min((end - 1 + pool.pad[0]) // pool.stride[0], pool.oh - 1)
        with T.serial(0, last_row - first_row + 1) as i, T.serial(0, b.chunk * b.vectors) as v:
            row, vector = T.Bind(first_row + i), T.Bind(first_vector + v)
            top = T.Bind(row * pool.stride[0] - pool.pad[0])
            low, high = T.Bind(tirx.max(top, start)), T.Bind(tirx.min(top + pool.r, end))
            shared = T.Bind(tirx.Select(tirx.all(top < start, start > 0), 1, 0))
            target = T.Bind(self.pooled.first(image, vector, row, 0))
            lines = T.Bind(self.band.line(v, low - start))

            def pooled(row: Any = i, v: Any = vector) -> None:
                with T.serial(0, p.column_tiles) as tile:
                    x = T.Bind(p.tile_start(tile))
                    acc = vector_registers(p.columns, b.lanes)
                    place = T.Bind(target + self.pooled.offset(0, x))

                    def old() -> None:
                        self._each(lambda j, lane: T.buffer_store(
                            acc, self.out[place + self.pooled.offset(0, j) + lane], [j * b.lanes + lane]))  # fmt: skip

                    def fresh() -> None:
                        lowest = tirx.const(LOWEST, "float32")
                        self._each(lambda j, lane: T.buffer_store(acc, lowest, [j * b.lanes + lane]))

                    guarded([shared == 1, begins == 0], old, fresh)
                    with T.serial(0, high - low) as dy:
                        self._maxima(acc, T.Bind(lines + (dy * p.band_width + x * pool.stride[1]) * b.lanes))

                    def store() -> None:
                        self._each(lambda j, lane: T.buffer_store(
                            self.out, acc[j * b.lanes + lane], [place + self.pooled.offset(0, j) + lane]))  # fmt: skip

                    if beside is None:
                        store()
                    else:
                        other = T.Bind(p.beside_at(unit, row, v, x))

                        def keep() -> None:
                            self._each(lambda j, lane: T.buffer_store(
                                beside, acc[j * b.lanes + lane], [other + j * b.lanes + lane]))  # fmt: skip

                        guarded([shared == 1, begins == 1], keep, store)

            guarded([vector < self.g.output_vectors] if p.ragged else [], pooled)

    def _each(self, body: Callable[[int, Any], None]) -> None:
        """``body`` for every column of a register tile and lane."""
        for j in range(self.p.columns):
            with T.vectorized(0, self.b.lanes) as lane:
                body(j, lane)

    def _maxima(self, acc: Any, line: Any) -> None:
        """One row of the windows of a register tile."""
        lanes, pool = self.b.lanes, self.pool
        for s in range(pool.s):
            for j in range(self.p.columns):
                with T.vectorized(0, lanes) as lane:
                    element = self.band.data[line + (j * pool.stride[1] + s) * lanes + lane]
                    T.buffer_store(acc, tirx.max(acc[j * lanes + lane], element), [j * lanes + lane])

    def _join(self, beside: Any, bands: int, share: int) -> None:
        """The rows beside into the output."""
        p, g, lanes = self.p, self.g, self.b.lanes
        with T.serial(0, g.task.n) as image, T.serial(0, bands - 1) as before:
            start = T.Bind((before + 1) * share * p.block_rows)
            first_row = T.Bind(p.first_row(start))
            for i in range(p.shared_rows):
                row = T.Bind(first_row + i)
                exists = [start < self.t.oh, row < self.pool.oh, row * self.pool.stride[0] - self.pool.pad[0] < start]

                def joined(i: int = i, row: Any = row) -> None:
                    with T.serial(0, g.output_vectors) as vector, T.serial(0, self.pool.ow) as x:
                        place = T.Bind(self.pooled.first(image, vector, row, x))
                        other = T.Bind(p.beside_at(image * bands + before + 1, i, vector, x))
                        with T.vectorized(0, lanes) as lane:
                            value = tirx.max(self.out[place + lane], beside[other + lane])
                            T.buffer_store(self.out, value, [place + lane])

                guarded(exists, joined)


class _Band:
    """Takes the place of the output tiles: rows of the convolution's result between columns of the lowest number."""

    def __init__(self, geometry: PoolGeometry) -> None:
        self.p, g = geometry, geometry.conv
        self.g, self.t, self.lanes = g, g.task, g.blocking.lanes
        self.map = FeatureMap(Layout(f"NCHW{self.lanes}c"), self.t.k, self.t.oh, self.t.ow, self.lanes)
        self.constants: list[Any] = []

    def allocate(self) -> None:
        """A thread's own, its padding filled."""
        p, lanes = self.p, self.lanes
        self.data = workspace(p.band_floats)
        left, right = p.pool.pad[1], p.band_width - p.pool.pad[1] - self.t.ow
        for first, count in ((0, left), (p.band_width - right, right)):
            if count:
                rows = p.band_vectors * p.block_rows
                with T.serial(0, rows) as row, T.serial(0, count) as x, T.vectorized(0, lanes) as lane:
                    place = (row * p.band_width + first + x) * lanes + lane
                    T.buffer_store(self.data, tirx.const(LOWEST, "float32"), [place])

    def place(self, start: Any, first_vector: Any) -> None:
        """From now on it holds the rows from ``start`` on of the channels from ``first_vector`` on."""
        self.start, self.first_vector = start, first_vector

    def line(self, vector: Any, row: Any) -> Any:
        """Where a row begins, with its padding."""
        return (vector * self.p.block_rows + row) * (self.p.band_width * self.lanes)

    def emit(self, tile: Any, vector: Any, read: Callable[[Any, Any], Any]) -> None:
        """As ``OutputTiles.emit``."""
        g, t, lanes = self.g, self.t, self.lanes
        height, width = g.transform.outputs
        n, row, column = tile_position(g, tile)
        top, left = T.Bind(row * height), T.Bind(column * width)
        first = self.line(vector - self.first_vector, top - self.start) + (left + self.p.pool.pad[1]) * lanes
        first = T.Bind(first)

        def store(y: Any, x: Any, lane: Any, value: Any) -> None:
            constants: list[Any] = [lambda k, constant=constant: constant[k] for constant in self.constants]
            value = ep.apply(value, t.steps, constants, [], (n, vector * lanes + lane, top + y, left + x))
            T.buffer_store(self.data, value, [first + (y * self.p.band_width + x) * lanes + lane])

        g.transform.emit_output(lanes, read, OutputTile(self.map, (height, width), vector, top, left, store))
