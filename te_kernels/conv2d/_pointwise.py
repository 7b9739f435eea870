"""1x1 convolution that leaves the registers once only, with tiles that overlap where they do not divide.

    out[p, k] = sum_c data[p, c] * weight[k, c]            p: pixels of an image, c: input channels of k's group

    for block of tiles:                                    parallel, or the next loop is
      for group, block of vectors:                         its weights stay in L1 or L2
        for tile of pixels:
          acc[pixels, vectors, V] += broadcast(data) * U   c innermost
          epilogue, store

The epilogue takes the accumulators from the registers, where a TE schedule puts a buffer between the two: 28 stores and
loads a tile, which few input channels do not hide.

While a tile multiplies, the next tile's pixels are fetched, what the tile itself adds and, where the products are few,
what it overwrites. All lie in pieces of a few hundred bytes, which no hardware prefetcher follows; in a network the
layers before have left them in L3. Milliseconds without and with it, data in L3 (the same in L2 either way): 256x56x56
-> 64 0.57 and 0.43, the same in NCHW16c 0.98 and 0.44, 144x56x56 -> 24 0.32 and 0.14, 64x56x56 -> 256 with a residual
sum 0.65 and 0.43, 24x56x56 -> 144 0.111 and 0.090.

The last tile of pixels is moved back until it ends with the image, and computes some pixels twice: 13x13 = 169 pixels
are 34 tiles of 5, where tiles that divide them are of 13 or 1. Vectors are tiled the same way in NHWC: those of a group
of 34 output channels begin at its channels 0, 16 and 18. No lane is wasted on padding that would have to be masked,
every store is a whole vector, and groups need not be aligned. ShuffleNets (Zhang et al., CVPR 2018) have such groups,
which blocked layouts cannot hold.

TE does neither, hence statement by statement. GFLOP/s on one Zen 5 core and, in brackets, of the best direct variant:
32x112x112 -> 16 205 (182), 16x112x112 -> 96 225 (207), 144x56x56 -> 24 182 (171), 64x56x56 -> 256 244 (232), 64x55x55
-> 64 239 (221), 384x13x13 -> 48 238 (219), 512x13x13 -> 144 231 (213).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels import epilogue as ep
from te_kernels.conv2d import _pointwise_model
from te_kernels.conv2d._buffers import argument, flat, vector_registers
from te_kernels.conv2d._pointwise_geometry import Geometry
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.prefetch import CACHE_LINE_FLOATS, prefetch
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv
from te_kernels.variant import Layouts, Reject, Variant

#: Products for each output up to which the lines that are stored to are fetched: with more, stores have the time.
_SHORT_REDUCTION = 48


@dataclass(frozen=True)
class PointwiseVariant(Variant):
    """Base of the pointwise variants. Knobs: the layouts, pixels and vectors of a register tile."""

    family = "direct"
    task_type = ConvTask
    relative_error = 2e-5

    data: str
    out: str
    pixels: int
    vectors: int
    lanes: int

    @classmethod
    def _tiled(
        cls, task: ConvTask, machine: Machine, data: str, out: str, count: int = 2
    ) -> Iterator[PointwiseVariant]:
        per_group, lanes = task.k // task.groups, machine.vector_lanes
        blocked = [name for name in (data, out) if Layout(name).block]
        if task.depthwise:
            raise Reject("it is depthwise")
        if not task.pointwise:
            raise Reject("it is not 1x1 without stride and padding")
        if per_group < lanes:
            raise Reject(f"{per_group} output channels of a group are less than one vector")
        if task.groups > 1 and blocked:
            raise Reject(f"{task.groups} groups: no whole blocks of {blocked[0]}")
        if task.groups > 1 and per_group % lanes == 0:
            raise Reject(f"{per_group} output channels a group are whole vectors: direct_nhwc covers it")
        for name, channels in ((data, task.c), (out, task.k)):
            if Layout(name).block and channels % lanes:
                raise Reject(f"{channels} channels are no whole blocks of {name}")
        for pixels, vectors, width in _pointwise_model.best_tiles(task, machine, count, not blocked):
            yield cls(data, out, pixels, vectors, width)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.data,) + (self.out,) * (len(task.input_shapes) - 1), self.out)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as :func:`packed` has them."""
        return [packed(self._geometry(task), params[0]), *(np.asarray(p, np.float32) for p in params[1:])]

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            Emitter(self._geometry(task), self.layouts(task), machine).emit()
        return builder.get()

    def _geometry(self, task: ConvTask) -> Geometry:
        return Geometry(task, self.pixels, self.vectors, self.lanes)


def packed(geometry: Geometry, weight: np.ndarray) -> np.ndarray:
    """Weights ``(k, c / groups, 1, 1)`` as ``(groups, vector blocks, c / groups, vectors, lanes)``."""
    g = geometry
    channels = np.array([[first + np.arange(g.lanes) for first in block] for block in g.vector_starts])
    of_groups = weight.reshape(g.task.groups, g.per_group, g.reduction)[:, channels.reshape(-1)]
    blocks = of_groups.reshape(g.task.groups, *channels.shape, g.reduction)
    return np.ascontiguousarray(blocks.transpose(0, 1, 4, 2, 3), np.float32)


class Emitter:
    """Emits the kernel into the current IR builder."""

    def __init__(self, geometry: Geometry, layouts: Layouts, machine: Machine) -> None:
        self.g, self.t, self.machine = geometry, geometry.task, machine
        self.input, self.output = Layout(layouts.inputs[0]), Layout(layouts.output)

    def emit(self) -> None:
        g, t, threads = self.g, self.t, self.machine.threads
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        shape = self.output.physical_shape(t.output_shape)
        data = argument("data", self.input.physical_shape((t.n, t.c, t.h, t.w)))
        tensors = [argument(f"tensor{i}", shape) for i in range(ep.tensor_count(t.steps))]
        weight = argument("weight", g.weight_shape)
        self.constants = [argument(f"channel{i}", (t.k,)) for i in range(ep.channel_count(t.steps))]
        out = argument("out", shape)
        self.data, self.weight, self.out = flat(data), flat(weight), flat(out)
        self.tensors = [flat(tensor) for tensor in tensors]
        self.block_tiles = share = g.block_tiles(self.machine.l2_bytes, threads)
        blocks = cdiv(g.tiles, share)
        by_block = threads > 1 and blocks > 1
        by_unit = threads > 1 and not by_block
        over_blocks, over_units = (T.parallel if chosen else T.serial for chosen in (by_block, by_unit))
        with over_blocks(0, blocks) as block, over_units(0, g.units) as unit:
            group, number = T.Bind(unit // g.vector_blocks), T.Bind(unit % g.vector_blocks)
            last = share if g.tiles % share == 0 else tirx.min(share, g.tiles - block * share)
            with T.serial(0, last) as i:
                self._tile(group, number, unit, block * share + i, i)

    def _tile(self, group: Any, number: Any, unit: Any, tile: Any, number_in_block: Any) -> None:
        """A register tile: ``pixels`` pixels times block ``number`` of vectors of a group."""
        g = self.g
        image, pixel = (tile // g.image_tiles, tile % g.image_tiles) if self.t.n > 1 else (0, tile)
        pixel = pixel * g.pixels
        if g.image_pixels % g.pixels:
            pixel = tirx.min(pixel, g.image_pixels - g.pixels)
        image, pixel = T.Bind(image), T.Bind(pixel)
        acc = vector_registers(g.pixels * g.vectors, g.lanes)
        for slot in range(g.pixels * g.vectors):
            with T.vectorized(0, g.lanes) as lane:
                T.buffer_store(acc, tirx.const(0.0, "float32"), [slot * g.lanes + lane])
        places = self._places(group, number, image, pixel)
        for _, _, position in places:
            for tensor in self.tensors:
                prefetch(tensor[position])
            if g.reduction <= _SHORT_REDUCTION:
                prefetch(self.out[position], write=True)
        self._reduce(acc, group, unit, image, pixel, number_in_block)
        for slot, channel, position in places:
            self._store(acc, slot * g.lanes, channel, position)

    def _reduce(self, acc: Any, group: Any, unit: Any, image: Any, pixel: Any, number_in_block: Any) -> None:
        """Sums over the input channels, in runs of a cache line or so, each of which fetches its share ahead."""
        g = self.g
        if self.input.block:
            run, pitch, apart = g.lanes, g.lanes, g.image_pixels * g.lanes
            first = T.Bind((image * (g.reduction // g.lanes * g.image_pixels) + pixel) * g.lanes)
        else:
            run, pitch, apart = g.run, self.t.c, g.run
            first = T.Bind((image * g.image_pixels + pixel) * self.t.c + group * g.reduction)
        weights = T.Bind(unit * (g.reduction * g.vectors * g.lanes))
        runs, share = g.reduction // run, 0
        if g.fetches_weights(self.block_tiles):
            share = cdiv(g.reduction * g.vectors * g.lanes, CACHE_LINE_FLOATS * runs * self.block_tiles)
        with T.serial(0, runs) as co:
            source = T.Bind(first + co * apart)
            if runs > 1:
                self._fetch_pixels(source, pitch)
            for line in range(share):
                ahead = g.reduction * g.vectors * g.lanes
                ahead += ((number_in_block * runs + co) * share + line) * CACHE_LINE_FLOATS
                prefetch(self.weight[weights + ahead], level=2)
            with T.serial(0, run) as ci:
                self._multiply(acc, source + ci, pitch, weights, co * run + ci)

    def _fetch_pixels(self, source: Any, pitch: int) -> None:
        """Of the next tile, the cache line that this tile has at ``source``."""
        for i in range(0, self.g.pixels, cdiv(CACHE_LINE_FLOATS, pitch)):
            prefetch(self.data[source + (self.g.pixels + i) * pitch])

    def _places(self, group: Any, number: Any, image: Any, pixel: Any) -> list[tuple[int, Any, Any]]:
        """Of each vector of a register tile: its number, first channel and place in the output."""
        g = self.g
        first_vector = number * g.vectors
        if g.group_vectors % g.vectors:
            first_vector = tirx.min(first_vector, g.group_vectors - g.vectors)
        first_vector = T.Bind(first_vector)
        places = []
        for v in range(g.vectors):
            channel = tirx.min((first_vector + v) * g.lanes, g.per_group - g.lanes) + group * g.per_group
            channel = T.Bind(channel)
            for i in range(g.pixels):
                places.append((i * g.vectors + v, channel, self._position(image, pixel + i, channel)))
        return places

    def _position(self, image: Any, pixel: Any, channel: Any) -> Any:
        """Of the vector that begins at ``channel`` in the output."""
        g, t = self.g, self.t
        if self.output.block:
            vector = image * (t.k // g.lanes) + channel // g.lanes
            return (vector * g.image_pixels + pixel) * g.lanes
        return (image * g.image_pixels + pixel) * t.k + channel

    def _multiply(self, acc: Any, source: Any, pitch: int, weights: Any, c: Any) -> None:
        """Input channel ``c`` of pixels that begin at ``source``, ``pitch`` apart, times its weights."""
        g = self.g
        for i in range(g.pixels):
            for v in range(g.vectors):
                with T.vectorized(0, g.lanes) as lane:
                    register = (i * g.vectors + v) * g.lanes + lane
                    w = self.weight[weights + (c * g.vectors + v) * g.lanes + lane]
                    T.buffer_store(acc, acc[register] + self.data[source + i * pitch] * w, [register])

    def _store(self, acc: Any, slot: int, channel: Any, position: Any) -> None:
        """One vector of one pixel, through the epilogue; ``channel`` is its first."""
        with T.vectorized(0, self.g.lanes) as lane:
            readers: list[Any] = [lambda *_, tensor=tensor: tensor[position + lane] for tensor in self.tensors]
            constants: list[Any] = [lambda k, constant=constant: constant[k] for constant in self.constants]
            index = (0, channel + lane, 0, 0)  # the readers know the place
            value = ep.apply(acc[slot + lane], self.t.steps, constants, readers, index)
            T.buffer_store(self.out, value, [position + lane])
