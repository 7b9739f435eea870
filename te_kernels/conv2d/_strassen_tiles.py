"""From the map to the factors of Strassen's products and back: neighbouring positions x vectors of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import flat
from te_kernels.conv2d._map_tiles import FeatureMap, Write
from te_kernels.conv2d._strassen_geometry import StrassenGeometry
from te_kernels.layout import Layout


@dataclass(frozen=True)
class _Reader:
    #: ``read(position, vector, lane)`` of the tile.
    read: Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class _Writer:
    #: ``store(position, vector, lane, value)`` of the tile.
    store: Callable[[Any, Any, Any, Any], None]


def _positions(geometry: StrassenGeometry, tile: Any) -> list[Any]:
    """The positions of a tile. The last tile is moved back until it ends with the map and repeats some results."""
    parts, count = geometry.transform.parts, geometry.output_positions
    first = tile * parts
    if count % parts:
        first = tirx.min(first, count - parts)
    first = T.Bind(first)
    return [first + i for i in range(parts)]


class InputTiles:
    """Emits the sums of one tile and ``parts`` vectors of input channels of ``data``, at one element of the window."""

    def __init__(self, geometry: StrassenGeometry, layout: Layout, data: Any) -> None:
        t = geometry.task
        self.geometry, self.data = geometry, flat(data)
        self.map = FeatureMap(layout, t.c, t.h, t.w, geometry.blocking.lanes)

    def emit(self, tile: Any, vector: Any, write: Write) -> None:
        """``write(a, lane, value)`` takes the factor of product ``a``."""
        g, t = self.geometry, self.geometry.task
        tap = 0
        if t.r * t.s > 1:
            tap, vector = T.Bind(vector // g.channel_vectors), vector % g.channel_vectors
        first_vector = T.Bind(vector * g.transform.parts)
        places = [self._place(position, tap, first_vector) for position in _positions(g, tile)]

        def read(position: int, vector: int, lane: Any) -> Any:
            first, inside = places[position]
            value = self.data[first + vector * self.map.vector_pitch + lane]
            return tirx.if_then_else(inside, value, tirx.const(0.0, "float32")) if inside is not None else value

        g.transform.emit_input(self.map.lanes, _Reader(read), write)

    def _place(self, position: Any, tap: Any, vector: Any) -> tuple[Any, Any]:
        """Where an element of the window of an output position begins, and the condition under which it exists."""
        t = self.geometry.task
        if t.pointwise and (t.n == 1 or not self.map.layout.block):  # the map as one row
            return T.Bind(self.map.first(0, vector, 0, position)), None
        image = T.Bind(position // (t.oh * t.ow)) if t.n > 1 else 0
        y = T.Bind(position % (t.oh * t.ow) // t.ow * t.stride[0] + tap // t.s * t.dilation[0] - t.pad[0])
        x = T.Bind(position % t.ow * t.stride[1] + tap % t.s * t.dilation[1] - t.pad[1])
        first = T.Bind(self.map.first(image, vector, y, x))
        if not any(t.pad):
            return first, None
        return first, T.Bind(tirx.all(y >= 0, y < t.h, x >= 0, x < t.w))


class OutputTiles:
    """Emits the sums of products, the epilogue and the store of one tile and ``parts`` vectors of output channels."""

    def __init__(
        self, geometry: StrassenGeometry, layout: Layout, out: Any, tensors: list[Any], constants: list[Any]
    ) -> None:
        t = geometry.task
        self.geometry, self.out = geometry, flat(out)
        self.tensors, self.constants = [flat(tensor) for tensor in tensors], constants
        self.map = FeatureMap(layout, t.k, t.oh, t.ow, geometry.blocking.lanes)

    def emit(self, tile: Any, vector: Any, read: Callable[[Any, Any], Any]) -> None:
        """``read(a, lane)`` is product ``a``."""
        g, t, lanes = self.geometry, self.geometry.task, self.map.lanes
        first_vector = T.Bind(vector * g.transform.parts)
        places = [T.Bind(self._first(position, first_vector)) for position in _positions(g, tile)]

        def store(position: int, vector: int, lane: Any, value: Any) -> None:
            element = places[position] + vector * self.map.vector_pitch + lane
            readers: list[Any] = [lambda *_, tensor=tensor: tensor[element] for tensor in self.tensors]
            constants: list[Any] = [lambda k, constant=constant: constant[k] for constant in self.constants]
            index = (0, (first_vector + vector) * lanes + lane, 0, 0)  # the readers know the place
            T.buffer_store(self.out, ep.apply(value, t.steps, constants, readers, index), [element])

        g.transform.emit_output(lanes, read, _Writer(store))

    def _first(self, position: Any, vector: Any) -> Any:
        t = self.geometry.task
        if t.n == 1 or not self.map.layout.block:
            return self.map.first(0, vector, 0, position)
        return self.map.first(position // (t.oh * t.ow), vector, 0, position % (t.oh * t.ow))
