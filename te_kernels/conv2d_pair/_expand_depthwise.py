"""A 1x1 convolution and the depthwise one behind it, of which what lies between never leaves L1.

    mid[c, y, x] = e1(sum_i data[i, y, x] * U[c, i])
    out[c, y, x] = e2(sum_{r, s} mid[c, y sh + r - top, x sw + s - left] * W[c, r, s])

The middle of an inverted residual block (Sandler et al., "MobileNetV2", CVPR 2018) has six times the channels of its
ends, and each element of it takes part in nine multiply-adds: written and read back, it costs more than it computes.

    for image, band of output rows, chunk of channels:     parallel
      for row of output:
        for the rows of mid that it needs and that are not there yet:
          for tile of pixels:                              acc[pixels, vectors, V] += broadcast(data) * U; e1
            ring[row mod rows of the window] = acc
        for tile of columns, vector:                       acc[columns, V] += ring * W; e2
          out = acc

The ring holds the rows of one window, between columns of zeros for the padding; a row of zeros stands for those above
and below the map. Bands serve threads; each computes the rows of mid again that its first window shares with the band
before. Lines of the output are fetched before a tile of it is computed, as the layers before have left them in L3.

Microseconds on one Emerald Rapids core, measured as in a network, and of the fastest two kernels (in brackets), NHWC or
NCHW16c: 16 -> 96 channels on 112x112, stride 2, 340 (513); 24 -> 144 on 56x56 236 (305), with stride 2 166 (202);
32 -> 192 on 28x28 84 (92); 64 -> 384 on 14x14, which L2 holds anyway, 76 (73).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d._buffers import argument, flat, vector_registers, workspace
from te_kernels.conv2d._map_tiles import guarded
from te_kernels.conv2d_pair import _expand_depthwise_model as model
from te_kernels.conv2d_pair._expand_depthwise_geometry import Geometry
from te_kernels.conv2d_pair._steps import Steps
from te_kernels.conv2d_pair._window import window
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.prefetch import prefetch
from te_kernels.task import ConvTask, PairTask
from te_kernels.variant import Layouts, Reject, Variant, pad_channels

#: Elements of the largest window that is written out: 5x5.
_UNROLLED_WINDOW = 25


@dataclass(frozen=True)
class ExpandDepthwiseVariant(Variant):
    """Base. Knobs: layouts; ``pixels`` x ``vectors`` register tile of the 1x1, ``columns`` of the depthwise; bands."""

    family = "fused"
    task_type = PairTask
    relative_error = 3e-5

    data: str
    out: str
    pixels: int
    vectors: int
    columns: int
    lanes: int
    bands: int

    @classmethod
    def _tiled(cls, task: PairTask, machine: Machine, data: str, out: str) -> Iterator[ExpandDepthwiseVariant]:
        one, two, lanes = task.first, task.second, machine.vector_lanes
        if not isinstance(one, ConvTask) or not one.pointwise or one.groups > 1:
            raise Reject("the first is not a 1x1 without groups, stride and padding")
        if not isinstance(two, ConvTask) or not two.depthwise or two.k != two.c:
            raise Reject("the second is not depthwise with one output for each input channel")
        if two.r * two.s > _UNROLLED_WINDOW:
            raise Reject(f"a window of {two.r}x{two.s} is too large to be unrolled")
        if out == "NHWC" and two.k % lanes:
            raise Reject(f"{two.k} channels are no whole vectors")
        for pixels, vectors in model.best_tiles(task, machine):
            yield cls(data, out, pixels, vectors, model.columns(two), lanes, model.bands(two, machine, vectors))

    def layouts(self, task: PairTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: PairTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as [chunk, input channel, vector, lane] and [chunk, vector, r, s, lane]; channels padded by zeros."""
        g = self._geometry(task)
        first, second = task.split(params)
        shape = (g.chunks, g.vectors, g.lanes)
        expand = np.zeros((g.channels, g.first.c), np.float32)
        expand[: g.first.k] = first[0][:, :, 0, 0]
        depthwise = np.zeros((g.channels, g.second.r * g.second.s), np.float32)
        depthwise[: g.first.k] = second[0].reshape(g.first.k, -1)
        return [
            np.ascontiguousarray(expand.reshape(*shape, -1).transpose(0, 3, 1, 2)),
            *pad_channels(first[1:], g.channels),
            np.ascontiguousarray(depthwise.reshape(*shape, -1).transpose(0, 1, 3, 2)),
            *pad_channels(second[1:], g.channels),
        ]

    def prim_func(self, task: PairTask, machine: Machine) -> tvm.tirx.PrimFunc:
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            _Emitter(self._geometry(task), self.layouts(task), machine).emit()
        return builder.get()

    def workspace_bytes(self, task: PairTask, threads: int = 1) -> int:
        return 4 * self._geometry(task).ring_floats * threads

    def arithmetic(self, task: PairTask) -> int:
        return task.flops

    def _geometry(self, task: PairTask) -> Geometry:
        return Geometry(task, self.pixels, self.vectors, self.columns, self.lanes, self.bands)


class _Emitter:
    """Emits the kernel into the current IR builder."""

    def __init__(self, geometry: Geometry, layouts: Layouts, machine: Machine) -> None:
        self.g, self.machine = geometry, machine
        self.first, self.second = geometry.first, geometry.second
        self.input, self.output = Layout(layouts.inputs[0]), Layout(layouts.output)

    def emit(self) -> None:
        g, one, two = self.g, self.first, self.second
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        shape = self.output.physical_shape(two.output_shape)
        data = argument("data", self.input.physical_shape(one.input_shapes[0]))
        tensors = [argument(f"tensor{i}", shape) for i in range(ep.tensor_count(two.steps))]
        expand = argument("expand", (g.chunks, one.c, g.vectors, g.lanes))
        first = [argument(f"first{i}", (g.channels,)) for i in range(ep.channel_count(one.steps))]
        depthwise = argument("depthwise", (g.chunks, g.vectors, two.r * two.s, g.lanes))
        second = [argument(f"second{i}", (g.channels,)) for i in range(ep.channel_count(two.steps))]
        out = argument("out", shape)
        self.data, self.expand, self.depthwise, self.out = flat(data), flat(expand), flat(depthwise), flat(out)
        self.tensors = [flat(tensor) for tensor in tensors]
        self.first_steps, self.second_steps = Steps(one.steps, first), Steps(two.steps, second)
        over = T.parallel if self.machine.threads > 1 else T.serial
        with over(0, one.n * g.band_count * g.chunks) as unit:
            image, band = unit // (g.band_count * g.chunks), unit // g.chunks % g.band_count
            chunk = unit % g.chunks
            self._unit(T.Bind(image), T.Bind(band), T.Bind(chunk))

    def _unit(self, image: Any, band: Any, chunk: Any) -> None:
        """A chunk of channels in a band of rows."""
        g, two = self.g, self.second
        ring = workspace(g.ring_floats)
        self._clear(ring)
        start = T.Bind(band * g.band_rows)
        rows = g.band_rows if two.oh % g.band_rows == 0 else tirx.min(g.band_rows, two.oh - start)
        fresh = min(two.stride[0], g.window_rows)  # rows of a window that the window before did not have
        with T.serial(0, rows) as i:
            y = T.Bind(start + i)
            top = T.Bind(y * two.stride[0] - two.pad[0])
            missing = T.Bind(tirx.Select(i == 0, tirx.const(g.window_rows), tirx.const(fresh)))
            with T.serial(0, missing) as j:
                line = T.Bind(top + (g.window_rows - missing) + j)
                guarded([line >= 0, line < self.first.h], lambda: self._expand_row(ring, image, chunk, line))
            self._depthwise_row(ring, image, chunk, y, top)

    def _clear(self, ring: Any) -> None:
        """Zeros left and right of every row of the ring, and in the row that stands for those outside the map."""
        g = self.g
        pixel = g.vectors * g.lanes

        def clear(row: Any, first: int, count: int) -> None:
            with T.serial(0, count * g.vectors) as i, T.vectorized(0, g.lanes) as lane:
                place = row * g.row_floats + first * pixel + i * g.lanes + lane
                T.buffer_store(ring, tirx.const(0.0, "float32"), [place])

        left, right = self.second.pad[1], g.row_pixels - self.second.pad[1] - self.first.w
        with T.serial(0, g.window_rows) as row:
            if left:
                clear(row, 0, left)
            if right:
                clear(row, g.row_pixels - right, right)
        clear(g.window_rows, 0, g.row_pixels)

    def _expand_row(self, ring: Any, image: Any, chunk: Any, line: Any) -> None:
        """Row ``line`` of the middle, into its place in the ring."""
        g, one = self.g, self.first
        row = T.Bind((line % g.window_rows) * g.row_floats + self.second.pad[1] * (g.vectors * g.lanes))
        with T.serial(0, g.pixel_tiles) as tile:
            x = T.Bind(tile * g.pixels if one.w % g.pixels == 0 else tirx.min(tile * g.pixels, one.w - g.pixels))
            acc = vector_registers(g.pixels * g.vectors, g.lanes)
            channels = [T.Bind((chunk * g.vectors + v) * g.lanes) for v in range(g.vectors)]
            self._start(acc, [channels[slot % g.vectors] for slot in range(g.pixels * g.vectors)], self.first_steps)
            self._reduce(acc, chunk, (image * one.h + line) * one.w + x, image)
            for i, (v, channel) in itertools.product(range(g.pixels), enumerate(channels)):
                with T.vectorized(0, g.lanes) as lane:
                    value = acc[(i * g.vectors + v) * g.lanes + lane]
                    value = self.first_steps.after(value, channel + lane, [])
                    T.buffer_store(ring, value, [row + ((x + i) * g.vectors + v) * g.lanes + lane])

    def _start(self, acc: Any, channels: list[Any], steps: Steps) -> None:
        """What accumulators begin with, one for each of ``channels``."""
        for slot, channel in enumerate(channels):
            with T.vectorized(0, self.g.lanes) as lane:
                T.buffer_store(acc, steps.start(channel + lane), [slot * self.g.lanes + lane])

    def _reduce(self, acc: Any, chunk: Any, pixel: Any, image: Any) -> None:
        """Sums over the input channels of the pixels from ``pixel`` on, which counts those of all images."""
        g, one = self.g, self.first
        weights = T.Bind(chunk * (one.c * g.vectors * g.lanes))

        def run(source: Any, pitch: int, first: Any, count: int) -> None:
            pixels = window(self.data, source, (g.pixels - 1) * pitch + count)
            with T.serial(0, count) as c:
                for i in range(g.pixels):
                    for v in range(g.vectors):
                        with T.vectorized(0, g.lanes) as lane:
                            register = (i * g.vectors + v) * g.lanes + lane
                            w = self.expand[weights + ((first + c) * g.vectors + v) * g.lanes + lane]
                            T.buffer_store(acc, acc[register] + pixels[i * pitch + c] * w, [register])

        if not self.input.block:
            run(T.Bind(pixel * one.c), one.c, 0, one.c)
            return
        block, image_pixels = self.input.block, one.h * one.w
        whole, rest = divmod(one.c, block)
        blocks = whole + (rest > 0)
        first = T.Bind((image * ((blocks - 1) * image_pixels) + pixel) * block)
        if whole:
            with T.serial(0, whole) as b:
                run(T.Bind(first + b * (image_pixels * block)), block, b * block, block)
        if rest:
            run(T.Bind(first + whole * (image_pixels * block)), block, whole * block, rest)

    def _depthwise_row(self, ring: Any, image: Any, chunk: Any, y: Any, top: Any) -> None:
        """Row ``y`` of the output, whose window begins at row ``top`` of the middle."""
        g, two = self.g, self.second
        rows = []
        for r in range(two.r):
            line = T.Bind(top + r * two.dilation[0])
            inside = tirx.all(line >= 0, line < two.h)
            place = tirx.Select(inside, (line % g.window_rows) * g.row_floats, tirx.const(g.window_rows * g.row_floats))
            rows.append(T.Bind(place))
        with T.serial(0, g.column_tiles) as tile:
            even = two.ow % g.columns == 0
            x = T.Bind(tile * g.columns if even else tirx.min(tile * g.columns, two.ow - g.columns))
            for v in range(g.vectors):
                self._depthwise_tile(ring, rows, image, chunk, v, y, x)

    def _depthwise_tile(self, ring: Any, rows: list[Any], image: Any, chunk: Any, v: int, y: Any, x: Any) -> None:
        g, two = self.g, self.second
        acc = vector_registers(g.columns, g.lanes)
        channel = T.Bind((chunk * g.vectors + v) * g.lanes)
        positions = [T.Bind(self._position(image, y * two.ow + x + i, channel)) for i in range(g.columns)]
        for position in positions:
            prefetch(self.out[position], write=True)
        self._start(acc, [channel] * g.columns, self.second_steps)
        weights = T.Bind((chunk * g.vectors + v) * (two.r * two.s * g.lanes))
        for r in range(two.r):
            start = T.Bind(rows[r] + (x * two.stride[1] * g.vectors + v) * g.lanes)
            for s in range(two.s):
                for i in range(g.columns):
                    with T.vectorized(0, g.lanes) as lane:
                        offset = (i * two.stride[1] + s * two.dilation[1]) * g.vectors * g.lanes
                        product = (
                            ring[start + offset + lane] * self.depthwise[weights + (r * two.s + s) * g.lanes + lane]
                        )
                        T.buffer_store(acc, acc[i * g.lanes + lane] + product, [i * g.lanes + lane])
        for i, position in enumerate(positions):
            with T.vectorized(0, g.lanes) as lane:
                read = [tensor[position + lane] for tensor in self.tensors]
                value = self.second_steps.after(acc[i * g.lanes + lane], channel + lane, read)
                T.buffer_store(self.out, value, [position + lane])

    def _position(self, image: Any, pixel: Any, channel: Any) -> Any:
        """Of the vector that begins at ``channel`` in the output."""
        two, pixels = self.second, self.second.oh * self.second.ow
        if self.output.block:
            vectors = self.output.physical_shape(two.output_shape)[1]
            return ((image * vectors + channel // self.g.lanes) * pixels + pixel) * self.g.lanes
        return (image * pixels + pixel) * two.k + channel
