"""From the map to transformed tiles and back: one tile x one vector of channels.

A tile that lies wholly inside the map is loaded and stored by its transform directly; one at its edge goes through a
patch, of which only the existing part is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._transformed_geometry import Geometry
from te_kernels.layout import Layout


def guarded(conditions: list[Any], body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
    """``if`` all conditions hold: ``body``; no branch when there is nothing to ask."""
    if not conditions:
        body()
        return
    with T.If(tirx.all(*conditions)):
        with T.Then():
            body()
        if otherwise:
            with T.Else():
                otherwise()


def tile_position(geometry: Geometry, tile: Any) -> tuple[Any, Any, Any]:
    """(image, tile row, tile column) of a tile's number."""
    per_image = geometry.tile_rows * geometry.tile_columns
    tile = T.Bind(tile)
    image = T.Bind(tile // per_image) if geometry.task.n > 1 else 0
    return image, T.Bind(tile % per_image // geometry.tile_columns), T.Bind(tile % geometry.tile_columns)


@dataclass(frozen=True)
class _Map:
    """Where the pixels of a feature map lie in memory, in floats."""

    layout: Layout
    channels: int
    height: int
    width: int
    lanes: int

    def first(self, image: Any, vector: Any, y: Any, x: Any) -> Any:
        """Position of the first lane of a vector of channels; ``y`` and ``x`` may lie outside the map."""
        if self.layout.block:
            vectors = -(-self.channels // self.lanes)
            return (((image * vectors + vector) * self.height + y) * self.width + x) * self.lanes
        return ((image * self.height + y) * self.width + x) * self.channels + vector * self.lanes

    def offset(self, y: Any, x: Any) -> Any:
        """Distance of the pixel ``y`` rows and ``x`` columns further."""
        return (y * self.width + x) * (self.lanes if self.layout.block else self.channels)

    @property
    def partial(self) -> bool:
        """Whether the last vector of channels is cut off."""
        return not self.layout.block and self.channels % self.lanes != 0

    def is_whole(self, vector: Any) -> list[Any]:
        """Conditions under which all lanes of a vector exist."""
        return [vector < self.channels // self.lanes] if self.partial else []

    def existing_lanes(self, vector: Any, body: Callable[[Any], None]) -> None:
        """``body`` for every lane of a vector that exists."""

        def whole() -> None:
            with T.vectorized(0, self.lanes) as lane:
                body(lane)

        def part() -> None:
            with T.serial(0, self.channels % self.lanes) as lane:
                body(lane)

        guarded(self.is_whole(vector), whole, part)


def flat(buffer: Any) -> Any:
    """One-dimensional view of a buffer.

    Passes that flatten indices or study every access to an allocation take most of the build time otherwise.
    """
    return T.decl_buffer((math.prod(int(extent) for extent in buffer.shape),), "float32", data=buffer.data)


def workspace(size: int) -> Any:
    """``size`` floats of memory."""
    return flat(T.alloc_buffer((size,), "float32"))


class InputTiles:
    """Emits the transform of one tile and one vector of input channels of ``data``."""

    def __init__(self, geometry: Geometry, layout: Layout, data: Any) -> None:
        t = geometry.task
        self.geometry, self.data = geometry, flat(data)
        self.map = _Map(layout, t.c, t.h, t.w, geometry.blocking.lanes)

    def emit(self, tile: Any, vector: Any, transformed: Any, target: Any) -> None:
        """Position ``a`` of the result goes to ``transformed[a * input_panel + target + lane]``."""
        g, t, lanes, source = self.geometry, self.geometry.task, self.map.lanes, self.map
        (height, width), outputs = g.transform.window, g.transform.outputs
        n, row, column = tile_position(g, tile)
        top, left = T.Bind(row * outputs[0] - t.pad[0]), T.Bind(column * outputs[1] - t.pad[1])
        first = T.Bind(source.first(n, vector, top, left))

        def element(y: Any, x: Any, lane: Any) -> Any:
            return self.data[first + source.offset(y, x) + lane]

        def write(a: Any, lane: Any, value: Any) -> None:
            T.buffer_store(transformed, value, [a * g.input_panel + target + lane])

        def at_edge() -> None:
            patch = workspace(height * width * lanes)
            with T.serial(0, height * width) as i, T.vectorized(0, lanes) as lane:
                T.buffer_store(patch, tirx.const(0.0, "float32"), [i * lanes + lane])
            first_y, first_x = T.Bind(tirx.max(0 - top, 0)), T.Bind(tirx.max(0 - left, 0))
            last_y, last_x = T.Bind(tirx.min(t.h - top, height)), T.Bind(tirx.min(t.w - left, width))
            with T.serial(0, last_y - first_y) as dy, T.serial(0, last_x - first_x) as dx:
                y, x = first_y + dy, first_x + dx

                def copy(lane: Any) -> None:
                    T.buffer_store(patch, element(y, x, lane), [(y * width + x) * lanes + lane])

                source.existing_lanes(vector, copy)
            g.transform.emit_input(lanes, lambda y, x, lane: patch[(y * width + x) * lanes + lane], write)

        inside = [top >= 0, top + height <= t.h, left >= 0, left + width <= t.w, *source.is_whole(vector)]
        guarded(inside, lambda: g.transform.emit_input(lanes, element, write), at_edge)


class OutputTiles:
    """Emits the inverse transform, the epilogue and the store of one tile and one vector of output channels."""

    def __init__(self, geometry: Geometry, layout: Layout, out: Any, tensors: list[Any], constants: list[Any]) -> None:
        t = geometry.task
        self.geometry, self.out = geometry, flat(out)
        self.tensors, self.constants = [flat(tensor) for tensor in tensors], constants
        self.map = _Map(layout, t.k, t.oh, t.ow, geometry.blocking.lanes)

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

        def at_edge() -> None:
            patch = workspace(height * width * lanes)

            def keep(y: Any, x: Any, lane: Any, value: Any) -> None:
                T.buffer_store(patch, value, [(y * width + x) * lanes + lane])

            g.transform.emit_output(lanes, read, keep)
            rows, columns = T.Bind(tirx.min(t.oh - top, height)), T.Bind(tirx.min(t.ow - left, width))
            with T.serial(0, rows) as y, T.serial(0, columns) as x:
                self.map.existing_lanes(vector, lambda lane: store(y, x, lane, patch[(y * width + x) * lanes + lane]))

        inside = self.map.is_whole(vector)
        if t.oh % height:
            inside.append(top + height <= t.oh)
        if t.ow % width:
            inside.append(left + width <= t.ow)
        guarded(inside, lambda: g.transform.emit_output(lanes, read, store), at_edge)
