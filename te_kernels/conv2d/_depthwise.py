"""Depthwise convolution with vectors of channels: the algorithm behind the NHWC and NCHW<V>c depthwise variants.

    for n, c block, row tile:                           parallel (NHWC: n and row tile, c block inside)
      for pixel tile:                                   (NHWC, channels_inner: outside the c block)
        acc[rows, pixels, V] = 0
        for r, s:                                       unrolled: the r*s weight vectors stay in registers
          acc[i, j] += x[h*sh + r*dh - top, w*sw + s*dw - left, c] * W[c, r, s]
        store(epilogue(acc))

In NHWC, a sweep over the pixels of a row with one vector of channels keeps the weights in registers but touches one
cache line in every c floats; with ``channels_inner`` memory is read in order and the weights reloaded for every tile.

Every output takes r*s multiply-adds, so a pass over memory to pad the input would cost about a third of the time.
There is none: an element outside the input is a zero chosen by a branch on the (scalar) position, which predicts well.
On one Zen 5 core (FMA peak 245 GFLOP/s), blocked: 3x3 on 96x112x112 at 180, with stride 2 at 80 (bound by the L3: 6 MB
in 70 us), on 576x14x14 at 118, 5x5 on 240x28x28 at 175; NHWC 114, 60, 78 and 150.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from te_kernels import epilogue as ep
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, Reject, Variant, epilogue_placeholders, pad_channels

#: Window elements up to which the whole window is unrolled; beyond, only its columns.
_UNROLLED_WINDOW = 25


@dataclass(frozen=True)
class DepthwiseVariant(Variant):
    """Base of the depthwise variants. Knobs: layout, register tile, vector length, loop order (NHWC only)."""

    family = "depthwise"
    task_type = ConvTask
    relative_error = 1e-5

    layout: str
    rows: int
    pixels: int
    lanes: int
    channels_inner: bool

    @classmethod
    def _tiled(cls, task: ConvTask, machine: Machine, layout: str) -> Iterator[DepthwiseVariant]:
        if not task.depthwise:
            raise Reject(f"not depthwise: {task.c // task.groups} input channels in each of {task.groups} groups")
        if task.k != task.c:
            raise Reject(
                f"channel multiplier {task.k // task.c}: vectors of channels need one output per input channel"
            )
        lanes = machine.vector_lanes
        if layout == "NHWC":
            while task.c % lanes:  # a part vector would read past the last pixel
                lanes //= 2
        tiles = _tiles(task, machine)
        if layout == "NHWC":
            yield from (cls(layout, *tiles[0], lanes, inner) for inner in (False, True))
        else:
            yield from (cls(layout, *tile, lanes, False) for tile in tiles)

    def layouts(self, task: ConvTask) -> Layouts:
        return Layouts((self.layout,) * len(task.input_shapes), self.layout)

    def pack(self, task: ConvTask, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weight as [c block, r, s, lane]; everything zero-padded to whole blocks."""
        blocks = -(-task.c // self.lanes)
        padded = np.zeros((blocks * self.lanes, task.r, task.s), np.float32)
        padded[: task.c] = params[0][:, 0]
        weight = padded.reshape(blocks, self.lanes, task.r, task.s).transpose(0, 2, 3, 1)
        return [np.ascontiguousarray(weight), *pad_channels(params[1:], blocks * self.lanes)]

    def prim_func(self, task: ConvTask, machine: Machine) -> tvm.tirx.PrimFunc:
        sch = tvm.s_tir.Schedule(te.create_prim_func(self._compute(task)))
        out, acc = sch.get_sblock("out"), sch.get_sblock("acc")
        if self.layout == "NHWC":
            n, h, w, c = sch.get_loops(out)
            c, lane = sch.split(c, [None, self.lanes])
        else:
            n, c, h, w, lane = sch.get_loops(out)
        ho, hi = sch.split(h, [None, self.rows])
        wo, wi = sch.split(w, [None, self.pixels])
        if self.layout == "NHWC":
            middle = (wo, c) if self.channels_inner else (c, wo)
            sch.reorder(n, ho, *middle, hi, wi, lane)
            sch.parallel(sch.fuse(n, ho))
        else:
            sch.reorder(n, c, ho, wo, hi, wi, lane)
            sch.parallel(sch.fuse(n, c, ho) if task.n * task.c < 4 * machine.threads * self.lanes else sch.fuse(n, c))
        sch.compute_at(acc, c if self.channels_inner else wo, preserve_unit_loops=True)
        sch.set_scope(acc, 0, "local")
        *_, hi_, wi_, lane_, r, s = sch.get_loops(acc)
        sch.reorder(r, s, hi_, wi_, lane_)
        sch.vectorize(lane_)
        sch.vectorize(lane)
        for loop in (wi_, hi_, s, wi, hi):
            sch.unroll(loop)
        if task.r * task.s <= _UNROLLED_WINDOW:
            sch.unroll(r)
        sch.decompose_reduction(acc, r)
        return sch.mod["main"]

    def _compute(self, t: ConvTask) -> list[te.Tensor]:
        layout = Layout(self.layout)
        blocks = -(-t.c // self.lanes)
        (top, left, bottom, right), (sh, sw), (dh, dw) = t.pad, t.stride, t.dilation
        data = te.placeholder(layout.physical_shape((t.n, t.c, t.h, t.w)), "float32", name="data")
        weight = te.placeholder((blocks, t.r, t.s, self.lanes), "float32", name="weight")
        r = te.reduce_axis((0, t.r), name="r")
        s = te.reduce_axis((0, t.s), name="s")

        def element(n: Any, c: Any, h: Any, w: Any, lane: Any) -> Any:
            y, x = h * sh + r * dh - top, w * sw + s * dw - left
            value = data[layout.physical_index(n, c * self.lanes + lane, y, x)]
            inside = [y >= 0] * (top > 0) + [y < t.h] * (bottom > 0) + [x >= 0] * (left > 0) + [x < t.w] * (right > 0)
            if inside:
                value = tirx.if_then_else(tirx.all(*inside), value, tirx.const(0.0, "float32"))
            return te.sum(value * weight[c, r, s, lane], axis=[r, s])

        acc = te.compute((t.n, blocks, t.oh, t.ow, self.lanes), element, name="acc")
        tensors, constants, read_tensor, read_constant = epilogue_placeholders(t, self.layout, blocks * self.lanes)

        def store(*axes: Any) -> Any:
            n, c, h, w = layout.logical_index(*axes)
            return ep.apply(
                acc[n, c // self.lanes, h, w, c % self.lanes], t.steps, read_constant, read_tensor, (n, c, h, w)
            )

        out = te.compute(layout.physical_shape(t.output_shape), store, name="out")
        return [data, *tensors, weight, *constants, out]


def _tiles(task: ConvTask, machine: Machine) -> list[tuple[int, int]]:
    """Two register tiles of one row each, evenly split, from a third of the registers beside the weights.

    Every branch on the padding is paid once for each row of a tile, and tiles of several rows were never faster.
    A window whose weights do not stay in registers anyway gains from longer tiles, a small one from shorter.
    """
    window = task.r * task.s
    narrow = _even(task.ow, max(2, (machine.vector_registers - min(window, 9)) // 3))
    other = _even(task.ow, 2 * narrow if window > 9 else max(1, narrow // 2 + 1))
    return list(dict.fromkeys([(1, narrow), (1, other)]))


def _even(total: int, limit: int) -> int:
    """The largest tile <= limit that wastes the least of ``total``."""
    return min(range(1, min(total, limit) + 1), key=lambda size: (-(-total // size) * size / total + 0.7 / size, -size))
