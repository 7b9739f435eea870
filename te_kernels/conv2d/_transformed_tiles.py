"""From the map to transformed tiles and back: one tile x one vector of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import flat
from te_kernels.conv2d._map_tiles import FeatureMap, InputTile, OutputTile, Write
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.layout import Layout


def tile_position(geometry: Geometry, tile: Any) -> tuple[Any, Any, Any]:
    """(image, tile row, tile column) of a tile's number."""
    per_image = geometry.tile_rows * geometry.tile_columns
    tile = T.Bind(tile)
    image = T.Bind(tile // per_image) if geometry.task.n > 1 else 0
    return image, T.Bind(tile % per_image // geometry.tile_columns), T.Bind(tile % geometry.tile_columns)


class InputTiles:
    """Emits the transform of one tile and one vector of input channels of ``data``."""

    def __init__(self, geometry: Geometry, layout: Layout, data: Any) -> None:
        t = geometry.task
        self.geometry, self.data = geometry, flat(data)
        self.map = FeatureMap(layout, t.c, t.h, t.w, geometry.blocking.lanes)

    def emit(self, tile: Any, vector: Any, write: Write) -> None:
        """``write(a, lane, value)`` takes position ``a`` of the result."""
        t, transform = self.geometry.task, self.geometry.transform
        image, row, column = tile_position(self.geometry, tile)
        top = T.Bind(row * (transform.outputs[0] * t.stride[0]) - t.pad[0])
        left = T.Bind(column * (transform.outputs[1] * t.stride[1]) - t.pad[1])
        first = T.Bind(self.map.first(image, vector, top, left))
        source = InputTile(self.map, self.data, transform.window, vector, top, left, first)
        transform.emit_input(self.map.lanes, source, write)


class OutputTiles:
    """Emits the inverse transform, the epilogue and the store of one tile and one vector of output channels."""

    def __init__(self, geometry: Geometry, layout: Layout, out: Any, tensors: list[Any], constants: list[Any]) -> None:
        t = geometry.task
        self.geometry, self.out = geometry, flat(out)
        self.tensors, self.constants = [flat(tensor) for tensor in tensors], constants
        self.map = FeatureMap(layout, t.k, t.oh, t.ow, geometry.blocking.lanes)

    def emit(self, tile: Any, vector: Any, read: Callable[[Any, Any], Any]) -> None:
        """``read(a, lane)`` is the product at position ``a``."""
        g, t, lanes = self.geometry, self.geometry.task, self.map.lanes
        height, width = g.transform.outputs
        n, row, column = tile_position(g, tile)
        top, left = T.Bind(row * height), T.Bind(column * width)
        first = T.Bind(self.map.first(n, vector, top, left))

        def store(y: Any, x: Any, lane: Any, value: Any) -> None:
            position = first + self.map.offset(y, x) + lane
            readers: list[Any] = [lambda *_, tensor=tensor: tensor[position] for tensor in self.tensors]
            constants: list[Any] = [lambda k, constant=constant: constant[k] for constant in self.constants]
            index = (n, vector * lanes + lane, top + y, left + x)
            T.buffer_store(self.out, ep.apply(value, t.steps, constants, readers, index), [position])

        g.transform.emit_output(lanes, read, OutputTile(self.map, (height, width), vector, top, left, store))
