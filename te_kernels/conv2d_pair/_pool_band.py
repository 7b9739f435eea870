"""Rows of a convolution's result on their way to a pool, for ``_winograd_pool``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import workspace
from te_kernels.conv2d._map_tiles import FeatureMap, OutputTile
from te_kernels.conv2d._transformed_tiles import tile_position
from te_kernels.conv2d_pair._padding import LOWEST
from te_kernels.conv2d_pair._winograd_pool_geometry import PoolGeometry
from te_kernels.layout import Layout


class Band:
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
