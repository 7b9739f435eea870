"""Maxima over the windows of a pool, taken in parts, for ``_winograd_pool``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d._map_tiles import FeatureMap, guarded
from te_kernels.conv2d_pair._padding import LOWEST
from te_kernels.conv2d_pair._pool_band import Band
from te_kernels.conv2d_pair._winograd_pool_geometry import PoolGeometry
from te_kernels.layout import Layout


@dataclass(frozen=True)
class Border:
    """Between the blocks of two threads: windows that both have rows of."""

    #: Rows of parts, by number of the thread's share and row.
    beside: Any
    share: Any
    #: 1 in the first block of a share, whose first windows another thread has begun.
    begins: Any


class Maxima:
    """Takes the rows of a :class:`Band` into the output."""

    def __init__(self, geometry: PoolGeometry, layout: Layout, band: Band) -> None:
        self.p, self.pool, self.band = geometry, geometry.pool, band
        self.g, self.lanes = geometry.conv, geometry.conv.blocking.lanes
        self.map = FeatureMap(layout, self.g.task.k, self.pool.oh, self.pool.ow, self.lanes)
        self.out: Any = None

    def take(self, image: Any, first_vector: Any, start: Any, end: Any, border: Border | None) -> None:
        """Rows from ``start`` up to ``end`` of the convolution's result, which the band has."""
        p, pool = self.p, self.pool
        first_row = T.Bind(p.first_row(start))
        last_row = tirx.min((end - 1 + pool.pad[0]) // pool.stride[0], pool.oh - 1)
        with T.serial(0, last_row - first_row + 1) as i, T.serial(0, p.band_vectors) as v:
            row, vector = T.Bind(first_row + i), T.Bind(first_vector + v)
            top = T.Bind(row * pool.stride[0] - pool.pad[0])
            low, high = T.Bind(tirx.max(top, start)), T.Bind(tirx.min(top + pool.r, end))
            begun = T.Bind(tirx.Select(tirx.all(top < start, start > 0), 1, 0))
            target = T.Bind(self.map.first(image, vector, row, 0))
            lines = T.Bind(self.band.line(v, low - start))

            def windows(i: Any = i, vector: Any = vector) -> None:
                with T.serial(0, p.column_tiles) as tile:
                    x = T.Bind(p.tile_start(tile))
                    acc = vector_registers(p.columns, self.lanes)
                    place = T.Bind(target + self.map.offset(0, x))
                    mine = [begun == 1] if border is None else [begun == 1, border.begins == 0]
                    guarded(mine, lambda: self._load(acc, place), lambda: self._start(acc))
                    with T.serial(0, high - low) as dy:
                        self._row(acc, T.Bind(lines + (dy * p.band_width + x * pool.stride[1]) * self.lanes))
                    if border is None:
                        self._store(acc, self.out, lambda j: place + self.map.offset(0, j))
                        return
                    beside = T.Bind(p.beside_at(border.share, i, vector, x))
                    guarded(
                        [begun == 1, border.begins == 1],
                        lambda: self._store(acc, border.beside, lambda j: beside + j * self.lanes),
                        lambda: self._store(acc, self.out, lambda j: place + self.map.offset(0, j)),
                    )

            guarded([vector < self.g.output_vectors] if p.ragged else [], windows)

    def _each(self, body: Callable[[int, Any], None]) -> None:
        """``body`` for every column of a register tile and lane."""
        for j in range(self.p.columns):
            with T.vectorized(0, self.lanes) as lane:
                body(j, lane)

    def _start(self, acc: Any) -> None:
        lowest = tirx.const(LOWEST, "float32")
        self._each(lambda j, lane: T.buffer_store(acc, lowest, [j * self.lanes + lane]))

    def _load(self, acc: Any, place: Any) -> None:
        """What the output has of a window that the block before has begun."""

        def column(j: int, lane: Any) -> None:
            T.buffer_store(acc, self.out[place + self.map.offset(0, j) + lane], [j * self.lanes + lane])

        self._each(column)

    def _row(self, acc: Any, line: Any) -> None:
        """One row of the windows of a register tile."""
        for s in range(self.pool.s):
            for j in range(self.p.columns):
                with T.vectorized(0, self.lanes) as lane:
                    element = self.band.data[line + (j * self.pool.stride[1] + s) * self.lanes + lane]
                    slot = j * self.lanes + lane
                    T.buffer_store(acc, tirx.max(acc[slot], element), [slot])

    def _store(self, acc: Any, target: Any, place: Callable[[int], Any]) -> None:
        self._each(lambda j, lane: T.buffer_store(target, acc[j * self.lanes + lane], [place(j) + lane]))

    def join(self, beside: Any, shares: int) -> None:
        """The parts beside into the output, when all threads are done."""
        p, g, pool = self.p, self.g, self.pool
        with T.serial(0, g.task.n) as image, T.serial(0, shares - 1) as before:
            start = T.Bind((before + 1) * p.band_blocks(shares) * p.block_rows)
            first_row = T.Bind(p.first_row(start))
            for i in range(p.shared_rows):
                row = T.Bind(first_row + i)
                exists = [start < g.task.oh, row < pool.oh, row * pool.stride[0] - pool.pad[0] < start]

                def joined(i: int = i, row: Any = row) -> None:
                    with T.serial(0, g.output_vectors) as vector, T.serial(0, pool.ow) as x:
                        place = T.Bind(self.map.first(image, vector, row, x))
                        other = T.Bind(p.beside_at(image * shares + before + 1, i, vector, x))
                        with T.vectorized(0, self.lanes) as lane:
                            value = tirx.max(self.out[place + lane], beside[other + lane])
                            T.buffer_store(self.out, value, [place + lane])

                guarded(exists, joined)
