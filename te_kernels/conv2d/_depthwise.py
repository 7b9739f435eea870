"""Depthwise convolution with vectors of channels: the algorithm behind the NHWC and NCHW<V>c depthwise variants.

    for n, c block, row tile:                           parallel (NHWC: n and block of rows)
      for pixel tile:
        acc[rows, pixels, V] = 0
        for r, s:                                       unrolled: the r*s weight vectors stay in registers
          acc[i, j] += x[h*sh + r*dh - top, w*sw + s*dw - left, c] * W[c, r, s]
        store(epilogue(acc))

In NHWC the loops are: n, block of rows, chunk of channel vectors, strip of pixel tiles, row, pixel tile, vector. All
rows of a strip are finished for one chunk before the next, so that L2 hands over each input line once and L1 serves it
to the r rows that read it; a block's input and output fit L2. Where 4*c bytes are a multiple of 1 KB, the vectors of
neighbouring pixels share a few sets of L1 and few of them are kept, whatever the strip: chunks of many vectors then at
least read whole runs of memory.

Every output takes r*s multiply-adds, so a pass over memory to pad the input would cost about a third of the time.
There is none: an element outside the input is a zero chosen by a branch on the (scalar) position, which predicts well.
On one Zen 5 core (FMA peak 250 GFLOP/s), blocked: 3x3 on 96x112x112 at 203, with stride 2 at 90 (bound by the L3: 6 MB
in 60 us), on 576x14x14 at 211, 5x5 on 240x28x28 at 202; NHWC 148-165, 82, 204 and 185. NHWC with powers of two:
128x56x56 at 165, 256x28x28 at 150, 512x14x14 at 110, 1024x7x7 at 60.
"""

from __future__ import annotations

import math
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
from te_kernels.tiling import even_share
from te_kernels.variant import Layouts, Reject, Variant, epilogue_placeholders, pad_channels

_LINE_BYTES = 64
_PAGE_BYTES = 4096
#: A multiple of it as the distance of neighbouring pixels leaves at most four sets of L1 to a vector of channels.
_CROWDED_PITCH = 1024
#: Vectors in the longest chunk: a run of 1 KB.
_LONG_CHUNK = 16
#: Window elements up to which the whole window is unrolled; beyond, only its columns.
_UNROLLED_WINDOW = 25


@dataclass(frozen=True)
class DepthwiseVariant(Variant):
    """Base of the depthwise variants. Knobs: layout, register tile, vector length, strip (tiles), chunk (vectors)."""

    family = "depthwise"
    task_type = ConvTask
    relative_error = 1e-5

    layout: str
    rows: int
    pixels: int
    lanes: int
    strip: int
    chunk: int

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
            columns = strip(task, machine, tiles[0][1])
            blocks = task.c // lanes
            limits = (_LONG_CHUNK, 2, 1) if 4 * task.c % _CROWDED_PITCH == 0 else (1, 2, _LONG_CHUNK)
            chunks = (max(d for d in range(1, limit + 1) if blocks % d == 0) for limit in limits)
            yield from (cls(layout, *tiles[0], lanes, columns, chunk) for chunk in dict.fromkeys(chunks))
        else:
            yield from (cls(layout, *tile, lanes, -(-task.ow // tile[1]), 1) for tile in tiles)

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
        wb, wo, wi = sch.split(w, [None, self.strip, self.pixels])
        if self.layout == "NHWC":
            ho, row, hi = sch.split(h, [None, self._rows_in_block(task, machine), self.rows])
            co, ci = sch.split(c, [None, self.chunk])
            sch.reorder(n, ho, co, wb, row, wo, ci, hi, wi, lane)
            sch.parallel(sch.fuse(n, ho))
        else:
            ho, hi = sch.split(h, [None, self.rows])
            sch.reorder(n, c, ho, wb, wo, hi, wi, lane)
            sch.parallel(sch.fuse(n, c, ho) if task.n * task.c < 4 * machine.threads * self.lanes else sch.fuse(n, c))
        sch.compute_at(acc, ci if self.layout == "NHWC" else wo, preserve_unit_loops=True)
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

    def _rows_in_block(self, task: ConvTask, machine: Machine) -> int:
        """Tile rows of which all channels' input and output fit L2, so that only the first chunk reads from beyond."""
        tiles = -(-task.oh // self.rows)
        row_bytes = 4 * task.c * self.rows * (task.w * task.stride[0] + task.ow)
        return even_share(tiles, max(1, min(machine.l2_bytes // row_bytes, -(-tiles // machine.threads))))

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


def strip(task: ConvTask, machine: Machine, pixels: int) -> int:
    """Tiles in a strip of columns that is narrow enough for L1 to keep r input rows of it beside an output row.

    In NHWC a chunk of channels is one run in every ``4 * c`` bytes, and a pitch of a large power of two leaves it only
    a few of the cache's sets. A way of L1 is one page on x86.
    """
    pitch = 4 * task.c
    sets = _PAGE_BYTES // math.gcd(pitch, _PAGE_BYTES)
    capacity = machine.l1_bytes // _PAGE_BYTES * min(sets, _PAGE_BYTES // _LINE_BYTES)
    tiles = -(-task.ow // pixels)

    def fits(count: int) -> bool:
        columns = (count * pixels - 1) * task.stride[1] + (task.s - 1) * task.dilation[1] + 1
        return columns * task.r + count * pixels <= capacity

    return even_share(tiles, max((count for count in range(1, tiles + 1) if fits(count)), default=1))
