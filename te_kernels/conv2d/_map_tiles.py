"""Tiles of a feature map, one vector of channels at a time, with what lies over the edges of the map.

A tile that lies wholly inside the map is loaded and stored directly; one at its edge goes through a patch on the stack,
of which only the existing part is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.layout import Layout

#: ``read(y, x, lane)`` of a tile, ``read(position, lane)`` of the transformed space; a vector of lanes.
Read = Callable[..., Any]
#: The same with the value last.
Write = Callable[..., None]


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


@dataclass(frozen=True)
class FeatureMap:
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
    def vector_pitch(self) -> int:
        """Distance of the same pixel's next vector of channels."""
        return self.height * self.width * self.lanes if self.layout.block else self.lanes

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


@dataclass(frozen=True)
class InputTile:
    """One vector of channels of the part of a map under one tile, which may overlap the edges of the map."""

    map: FeatureMap
    data: Any
    window: tuple[int, int]
    vector: Any
    top: Any
    left: Any
    #: Where its top left element would be in ``data``.
    first: Any

    @property
    def inside(self) -> list[Any]:
        """Conditions under which all of the tile exists."""
        (height, width), source = self.window, self.map
        edges = [self.top >= 0, self.top + height <= source.height, self.left >= 0, self.left + width <= source.width]
        return [*edges, *source.is_whole(self.vector)]

    def read(self, y: Any, x: Any, lane: Any) -> Any:
        """An element that exists."""
        return self.data[self.first + self.map.offset(y, x) + lane]

    def patch(self, first_row: Any, rows: int) -> Callable[[Any, Any, Any], Any]:
        """Emits a copy of some rows, zero where the map is not; returns the reader of the copy."""
        width, lanes, source = self.window[1], self.map.lanes, self.map
        patch = vector_registers(rows * width, lanes)
        with T.serial(0, rows * width) as i, T.vectorized(0, lanes) as lane:
            T.buffer_store(patch, tirx.const(0.0, "float32"), [i * lanes + lane])
        first_y, first_x = T.Bind(tirx.max(0 - self.top - first_row, 0)), T.Bind(tirx.max(0 - self.left, 0))
        last_y = T.Bind(tirx.min(source.height - self.top - first_row, rows))
        last_x = T.Bind(tirx.min(source.width - self.left, width))
        with T.serial(0, last_y - first_y) as dy, T.serial(0, last_x - first_x) as dx:
            y, x = first_y + dy, first_x + dx

            def copy(lane: Any) -> None:
                T.buffer_store(patch, self.read(first_row + y, x, lane), [(y * width + x) * lanes + lane])

            source.existing_lanes(self.vector, copy)
        return lambda y, x, lane: patch[(y * width + x) * lanes + lane]


@dataclass(frozen=True)
class OutputTile:
    """One vector of channels of a tile of the result, which may overlap the right and bottom edges of the map."""

    map: FeatureMap
    shape: tuple[int, int]
    vector: Any
    top: Any
    left: Any
    #: Stores ``(y, x, lane, value)``, an element that exists, with the epilogue.
    store: Callable[[Any, Any, Any, Any], None]

    @property
    def inside(self) -> list[Any]:
        """Conditions under which all of the tile exists."""
        (height, width), result = self.shape, self.map
        inside = result.is_whole(self.vector)
        if result.height % height:
            inside.append(self.top + height <= result.height)
        if result.width % width:
            inside.append(self.left + width <= result.width)
        return inside

    @property
    def rows(self) -> Any:
        """How many rows exist."""
        return tirx.min(self.map.height - self.top, self.shape[0])

    def patch(self, first_row: Any, rows: int, fill: Callable[[Write], None]) -> None:
        """Emits ``fill(write)`` into a copy of some rows, then stores what exists of it."""
        width, lanes = self.shape[1], self.map.lanes
        patch = vector_registers(rows * width, lanes)

        def keep(y: Any, x: Any, lane: Any, value: Any) -> None:
            T.buffer_store(patch, value, [(y * width + x) * lanes + lane])

        fill(keep)
        existing = T.Bind(tirx.min(self.map.height - self.top - first_row, rows))
        columns = T.Bind(tirx.min(self.map.width - self.left, width))
        with T.serial(0, existing) as y, T.serial(0, columns) as x:

            def copy(lane: Any) -> None:
                self.store(first_row + y, x, lane, patch[(y * width + x) * lanes + lane])

            self.map.existing_lanes(self.vector, copy)
