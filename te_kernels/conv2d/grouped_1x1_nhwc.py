"""Grouped 1x1 convolution, channels last, whose groups are no whole vectors of output channels: the last one overlaps.

    out[p, k] = sum_c data[p, c] * weight[k, c]            p: pixels, c: input channels of k's group

Vectors of a group of 34 output channels begin at its channels 0, 16 and 18: the last one is moved back until it ends
with the group, and computes some channels twice. No lane is wasted on padding that would have to be masked, every store
is a whole vector, and groups need not be aligned. Pixels are tiled the same way. ShuffleNets (Zhang et al., CVPR 2018)
have such groups, which blocked layouts cannot hold.

    for block of pixels:                                   parallel, or the next loop is
      for group, block of vectors:                         its weights stay in L1
        for tile of pixels:
          acc[pixels, vectors, V] += broadcast(data) * U   c innermost
          epilogue, store

The moved vectors are why this is written statement by statement: TE computes no element twice.
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
from te_kernels.conv2d import _grouped_model
from te_kernels.conv2d._grouped_geometry import Geometry
from te_kernels.conv2d._map_tiles import vector_registers
from te_kernels.conv2d._transformed_geometry import cdiv
from te_kernels.conv2d._transformed_tiles import flat
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject, Variant


@dataclass(frozen=True)
class Grouped1x1NHWC(Variant):
    """NHWC -> NHWC. Knobs: pixels and vectors of a register tile."""

    name = "grouped_1x1_nhwc"
    family = "direct"
    title = "grouped 1x1, channels last, the last vector of a group moved back to its end"
    task_type = ConvTask
    relative_error = 2e-5

    pixels: int
    vectors: int
    lanes: int

    @classmethod
    def candidates(cls, task: ConvTask, machine: Machine) -> Iterator[Variant]:
        """Best register tiles."""
        per_group, lanes = task.k // task.groups, machine.vector_lanes
        if task.groups == 1 or task.depthwise:
            raise Reject("one group: the direct variants cover it" if task.groups == 1 else "it is depthwise")
        if not task.pointwise:
            raise Reject("it is not 1x1 without stride and padding")
        if per_group % lanes == 0:
            raise Reject(f"{per_group} output channels a group are whole vectors: direct_nhwc covers it")
        if per_group < lanes:
            raise Reject(f"{per_group} output channels a group are less than one vector")
        for pixels, vectors in _grouped_model.best_tiles(task, machine, 3):
            yield cls(pixels, vectors, lanes)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts(("NHWC",) * len(task.input_shapes), "NHWC")

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights ``(k, c / groups, 1, 1)`` to ``(groups, vector blocks, c / groups, vectors, lanes)``."""
        g = self._geometry(task)
        weight = params[0].reshape(task.groups, g.per_group, g.reduction)
        channels = np.array([[first + np.arange(g.lanes) for first in block] for block in g.vector_starts])
        packed = weight[:, channels.reshape(-1)].reshape(task.groups, *channels.shape, g.reduction)
        return [np.ascontiguousarray(packed.transpose(0, 1, 4, 2, 3), np.float32),
                *(np.asarray(p, np.float32) for p in params[1:])]  # fmt: skip

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            _Emitter(self._geometry(task), machine).emit()
        return builder.get()

    def _geometry(self, task: ConvTask) -> Geometry:
        return Geometry(task, self.pixels, self.vectors, self.lanes)


class _Emitter:
    """Emits the kernel into the current IR builder."""

    def __init__(self, geometry: Geometry, machine: Machine) -> None:
        self.g, self.t, self.machine = geometry, geometry.task, machine

    def emit(self) -> None:
        g, t, threads = self.g, self.t, self.machine.threads
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        shape = Layout("NHWC").physical_shape(t.output_shape)
        data = self._argument("data", (t.n, t.h, t.w, t.c))
        tensors = [self._argument(f"tensor{i}", shape) for i in range(ep.tensor_count(t.steps))]
        weight = self._argument("weight", g.weight_shape)
        self.constants = [self._argument(f"channel{i}", (t.k,)) for i in range(ep.channel_count(t.steps))]
        out = self._argument("out", shape)
        self.data, self.weight, self.out = flat(data), flat(weight), flat(out)
        self.tensors = [flat(tensor) for tensor in tensors]
        share = g.block_tiles(self.machine.l2_bytes, threads)
        blocks = cdiv(g.tiles, share)
        by_block = threads > 1 and blocks > 1
        by_unit = threads > 1 and not by_block
        over_blocks, over_units = (T.parallel if chosen else T.serial for chosen in (by_block, by_unit))
        with over_blocks(0, blocks) as block, over_units(0, g.units) as unit:
            group, number = T.Bind(unit // g.vector_blocks), T.Bind(unit % g.vector_blocks)
            last = share if g.tiles % share == 0 else tirx.min(share, g.tiles - block * share)
            with T.serial(0, last) as i:
                self._tile(group, number, unit, block * share + i)

    def _argument(self, name: str, shape: tuple[int, ...]) -> Any:
        return T.arg(name, T.buffer(shape, "float32", layout=None))

    def _tile(self, group: Any, number: Any, unit: Any, tile: Any) -> None:
        """A register tile: ``pixels`` pixels times block ``number`` of vectors of a group."""
        g, t = self.g, self.t
        slots = [(i, v) for i in range(g.pixels) for v in range(g.vectors)]
        pixel = tile * g.pixels
        if g.positions % g.pixels:
            pixel = tirx.min(pixel, g.positions - g.pixels)
        pixel = T.Bind(pixel)
        source = T.Bind(pixel * t.c + group * g.reduction)
        weights = T.Bind(unit * (g.reduction * g.vectors * g.lanes))
        acc = vector_registers(len(slots), g.lanes)
        for slot in range(len(slots)):
            with T.vectorized(0, g.lanes) as lane:
                T.buffer_store(acc, tirx.const(0.0, "float32"), [slot * g.lanes + lane])
        with T.serial(0, g.reduction) as c:
            for slot, (i, v) in enumerate(slots):
                with T.vectorized(0, g.lanes) as lane:
                    register = slot * g.lanes + lane
                    x = self.data[source + i * t.c + c]
                    w = self.weight[weights + (c * g.vectors + v) * g.lanes + lane]
                    T.buffer_store(acc, acc[register] + x * w, [register])
        first_vector = number * g.vectors
        if g.group_vectors % g.vectors:
            first_vector = tirx.min(first_vector, g.group_vectors - g.vectors)
        first_vector = T.Bind(first_vector)
        for v in range(g.vectors):
            first = tirx.min((first_vector + v) * g.lanes, g.per_group - g.lanes) + group * g.per_group
            first = T.Bind(first)
            for i in range(g.pixels):
                self._store(acc, (i * g.vectors + v) * g.lanes, pixel + i, first)

    def _store(self, acc: Any, slot: int, pixel: Any, first: Any) -> None:
        """One vector of one pixel, through the epilogue."""
        t = self.t
        with T.vectorized(0, self.g.lanes) as lane:
            channel = first + lane
            position = pixel * t.k + channel
            readers: list[Any] = [lambda *_, tensor=tensor: tensor[position] for tensor in self.tensors]
            constants: list[Any] = [lambda k, constant=constant: constant[k] for constant in self.constants]
            value = ep.apply(acc[slot + lane], t.steps, constants, readers, (0, channel, 0, pixel))
            T.buffer_store(self.out, value, [position])
