"""A convolution and what goes over its result in windows, of which what lies between never leaves L1.

    for image, band of output rows, chunk of channels:     parallel
      for row of output:
        for the rows of the middle that it needs and that are not there yet:
          for tile of pixels:                              acc[pixels, vectors, V] = sums of the convolution; epilogue
            ring[row mod rows of the window] = acc         see _pointwise_rows, _first_layer_rows
        output row = windows over the ring                 see _depthwise_windows, _max_windows

The ring holds the rows of one window, between columns of what stands for the padding; one more row stands for those
above and below the map. Bands serve threads; each computes the rows of the middle again that its first window shares
with the band before. Lines of the output are fetched a row ahead, as the layers before have left them in L3 or memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import argument, flat, vector_registers, workspace
from te_kernels.conv2d._map_tiles import guarded
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.conv2d_pair._steps import Steps
from te_kernels.generic._tir import clamped_start
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.prefetch import prefetch
from te_kernels.variant import Layouts


class Rows(ABC):
    """Makes the rows of the middle."""

    #: The packed weights, one-dimensional.
    weights: Any

    def __init__(self, kernel: Emitter) -> None:
        self.kernel, self.g, self.t = kernel, kernel.g, kernel.first

    @staticmethod
    @abstractmethod
    def check(first: object) -> None:
        """Raises :class:`Reject` for the first operator of a pair if it is none for these rows."""

    @staticmethod
    @abstractmethod
    def ring_bytes(machine: Machine) -> float:
        """The most for a ring of several vectors."""

    @staticmethod
    @abstractmethod
    def pack(g: Geometry, weight: np.ndarray) -> np.ndarray:
        """The convolution's weights; channels padded by zeros."""

    @staticmethod
    def workspace_floats(g: Geometry) -> int:
        """Beside the ring."""
        return 0

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """Of what :meth:`pack` returns."""

    def begin(self) -> None:  # noqa: B027  # not all have something to begin with
        """Emits what a chunk in a band begins with."""

    def prepare(self, image: Any, line: Any, is_first: Any) -> None:  # noqa: B027
        """Emits what row ``line`` begins with; ``is_first`` of those that the chunk in the band needs."""

    @abstractmethod
    def reduce(self, acc: Any, image: Any, chunk: Any, line: Any, x: Any) -> None:
        """Emits the sums of a register tile of row ``line`` from pixel ``x`` on."""


class Windows(ABC):
    """Makes the rows of the output."""

    #: What stands for elements outside of the map.
    outside: ClassVar[float]
    #: The packed weights, one-dimensional; None without weights.
    weights: Any

    def __init__(self, kernel: Emitter) -> None:
        self.kernel, self.g, self.t = kernel, kernel.g, kernel.second

    @staticmethod
    @abstractmethod
    def check(second: object) -> None:
        """Raises :class:`Reject` for the second operator of a pair if it is none for these windows."""

    @staticmethod
    def pack(g: Geometry, weight: np.ndarray) -> np.ndarray:
        """The second operator's weights; channels padded by zeros. Of no use without weights."""
        raise NotImplementedError

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...] | None:
        """Of what :meth:`pack` returns; None without weights."""

    @abstractmethod
    def tile(self, ring: Any, rows: list[Any], chunk: Any, v: int, x: Any, positions: list[Any]) -> None:
        """Emits neighbouring outputs from column ``x`` on, of vector ``v`` of a chunk, stored at ``positions``.

        ``rows`` are where the rows of the window begin in the ring.
        """


def prim_func(
    geometry: Geometry, layouts: Layouts, machine: Machine, rows: type[Rows], windows: type[Windows]
) -> tvm.tirx.PrimFunc:
    """The kernel."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        Emitter(geometry, layouts, machine).emit(rows, windows)
    return builder.get()


class Emitter:
    """Emits the kernel into the current IR builder. ``data``, ``out`` and ``tensors`` are one-dimensional."""

    data: Any
    out: Any
    tensors: list[Any]
    first_steps: Steps
    second_steps: Steps

    def __init__(self, geometry: Geometry, layouts: Layouts, machine: Machine) -> None:
        self.g, self.machine = geometry, machine
        self.first, self.second = geometry.first, geometry.second
        self.input, self.output = Layout(layouts.inputs[0]), Layout(layouts.output)

    def emit(self, rows: type[Rows], windows: type[Windows]) -> None:
        """All of it."""
        g, one, two = self.g, self.first, self.second
        self.rows, self.windows = rows(self), windows(self)
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        shape = self.output.physical_shape(two.output_shape)
        data = argument("data", self.input.physical_shape(one.input_shapes[0]))
        tensors = [argument(f"tensor{i}", shape) for i in range(ep.tensor_count(two.steps))]
        first, self.first_steps = self._constants("first", self.rows.weight_shape, one.steps)
        second, self.second_steps = self._constants("second", self.windows.weight_shape, two.steps)
        out = argument("out", shape)
        self.data, self.rows.weights = flat(data), flat(first)
        self.windows.weights, self.out = None if second is None else flat(second), flat(out)
        self.tensors = [flat(tensor) for tensor in tensors]
        over = T.parallel if self.machine.threads > 1 else T.serial
        with over(0, one.n * g.band_count * g.chunks) as unit:
            image, band = unit // (g.band_count * g.chunks), unit // g.chunks % g.band_count
            chunk = unit % g.chunks
            self._unit(T.Bind(image), T.Bind(band), T.Bind(chunk))

    def _constants(self, name: str, shape: tuple[int, ...] | None, steps: ep.Epilogue) -> tuple[Any, Steps]:
        """The arguments of one operator: its weights, if any, and the constants of its epilogue."""
        weights = None if shape is None else argument(f"{name}_weights", shape)
        constants = [argument(f"{name}{i}", (self.g.channels,)) for i in range(ep.channel_count(steps))]
        return weights, Steps(steps, constants)

    def _unit(self, image: Any, band: Any, chunk: Any) -> None:
        """A chunk of channels in a band of rows."""
        g, two = self.g, self.second
        ring = workspace(g.ring_floats)
        self._clear(ring)
        self.rows.begin()
        start = T.Bind(band * g.band_rows)
        rows = g.band_rows if two.oh % g.band_rows == 0 else tirx.min(g.band_rows, two.oh - start)
        fresh = min(two.stride[0], g.window_rows)  # rows of a window that the window before did not have
        first_line = T.Bind(tirx.max(start * two.stride[0] - two.pad[0], 0))
        with T.serial(0, rows) as i:
            y = T.Bind(start + i)
            top = T.Bind(y * two.stride[0] - two.pad[0])
            missing = T.Bind(tirx.Select(i == 0, tirx.const(g.window_rows), tirx.const(fresh)))
            with T.serial(0, missing) as j:
                line = T.Bind(top + (g.window_rows - missing) + j)

                def row(line: Any = line) -> None:
                    place = (line % g.window_rows) * g.row_floats + two.pad[1] * (g.vectors * g.lanes)
                    self._row(ring, T.Bind(place), image, chunk, line, line == first_line)

                guarded([line >= 0, line < self.first.oh], row)
            self._output_row(ring, image, chunk, y, top)

    def _clear(self, ring: Any) -> None:
        """The padding left and right of every row of the ring, and the row that stands for those outside the map."""
        g = self.g
        pixel = g.vectors * g.lanes

        def clear(row: Any, first: int, count: int) -> None:
            with T.serial(0, count * g.vectors) as i, T.vectorized(0, g.lanes) as lane:
                place = row * g.row_floats + first * pixel + i * g.lanes + lane
                T.buffer_store(ring, tirx.const(self.windows.outside, "float32"), [place])

        left, right = self.second.pad[1], g.row_pixels - self.second.pad[1] - self.first.ow
        with T.serial(0, g.window_rows) as row:
            if left:
                clear(row, 0, left)
            if right:
                clear(row, g.row_pixels - right, right)
        clear(g.window_rows, 0, g.row_pixels)

    def _row(self, ring: Any, place: Any, image: Any, chunk: Any, line: Any, is_first: Any) -> None:
        """Row ``line`` of the middle into the ring, from ``place`` on."""
        g, steps = self.g, self.first_steps
        self.rows.prepare(image, line, is_first)
        with T.serial(0, g.pixel_tiles) as tile:
            x = T.Bind(clamped_start(tile, g.pixels, self.first.ow, g.pixel_tiles * g.pixels))
            acc = vector_registers(g.pixels * g.vectors, g.lanes)
            channels = [T.Bind((chunk * g.vectors + v) * g.lanes) for v in range(g.vectors)]
            self.start_sums(acc, channels * g.pixels, steps)
            self.rows.reduce(acc, image, chunk, line, x)
            for slot, channel in enumerate(channels * g.pixels):
                with T.vectorized(0, g.lanes) as lane:
                    value = steps.after(acc[slot * g.lanes + lane], channel + lane, [])
                    T.buffer_store(ring, value, [place + (x * g.vectors + slot) * g.lanes + lane])

    def start_sums(self, acc: Any, channels: list[Any], steps: Steps) -> None:
        """What accumulators of sums begin with, one for each of ``channels``."""
        for slot, channel in enumerate(channels):
            with T.vectorized(0, self.g.lanes) as lane:
                T.buffer_store(acc, steps.start(channel + lane), [slot * self.g.lanes + lane])

    def _output_row(self, ring: Any, image: Any, chunk: Any, y: Any, top: Any) -> None:
        """Row ``y`` of the output, whose window begins at row ``top`` of the middle."""
        g, two = self.g, self.second
        rows = []
        for r in range(two.r):
            line = T.Bind(top + r * two.dilation[0])
            inside = tirx.all(line >= 0, line < two.h)
            place = tirx.Select(inside, (line % g.window_rows) * g.row_floats, tirx.const(g.window_rows * g.row_floats))
            rows.append(T.Bind(place))
        row_floats = two.ow * (self.output.block or two.output_shape[1])
        with T.serial(0, g.column_tiles) as tile:
            x = T.Bind(clamped_start(tile, g.columns, two.ow, g.column_tiles * g.columns))
            for v in range(g.vectors):
                channel = T.Bind((chunk * g.vectors + v) * g.lanes)
                positions = [T.Bind(self._position(image, y * two.ow + x + i, channel)) for i in range(g.columns)]
                for position in positions:
                    prefetch(self.out[position + row_floats], write=True)
                self.windows.tile(ring, rows, chunk, v, x, positions)

    def _position(self, image: Any, pixel: Any, channel: Any) -> Any:
        """Of the vector that begins at ``channel`` in the output."""
        two, pixels = self.second, self.second.oh * self.second.ow
        if self.output.block:
            vectors = self.output.physical_shape(two.output_shape)[1]
            return ((image * vectors + channel // self.g.lanes) * pixels + pixel) * self.g.lanes
        return (image * pixels + pixel) * two.output_shape[1] + channel
