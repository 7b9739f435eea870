"""Direct convolution with the outputs kept in registers: the algorithm behind every direct and 1x1 variant.

A register tile holds ``rows x pixels`` output positions times ``vectors`` vectors of output channels. For each input
element of the reduction it loads ``vectors`` weight vectors and broadcasts one input value to each position:

    for n, block of rows, block of channels:            parallel
      for tile of (rows x pixels):
        acc[rows, pixels, vectors, V] = 0
        for co, r, s, ci:                               ci innermost: keeps LLVM from unrolling r, s and spilling
          acc[i, j, v] += x[h*sh + r*dh, w*sw + s*dw, c] * W[k/V, co, r, s, ci, v]
        store(epilogue(acc))

The input may be in any layout, because it is only read one broadcast value at a time; the output wants channels
innermost (NHWC or NCHW<V>c). Tiles at the right and bottom edge are computed whole and stored in part; for that, and
for padding, the rows that a block reads are first copied into a padded buffer that stays in L2 while every block of
output channels reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from te_kernels import epilogue as ep
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts, epilogue_placeholders, pad_channels


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


@dataclass(frozen=True)
class Tile:
    """Register tile: ``rows x pixels`` positions times ``vectors`` channel vectors of ``lanes`` floats."""

    rows: int
    pixels: int
    vectors: int
    lanes: int


@dataclass(frozen=True)
class Geometry:
    """Loop bounds of one task under one tile."""

    task: ConvTask
    tile: Tile

    @property
    def row_tiles(self) -> int:
        return cdiv(self.task.oh, self.tile.rows)

    @property
    def pixel_tiles(self) -> int:
        return cdiv(self.task.ow, self.tile.pixels)

    @property
    def group_channels(self) -> int:
        """Output channels of one group."""
        return self.task.k // self.task.groups

    @property
    def channel_blocks(self) -> int:
        """Blocks of ``vectors * lanes`` output channels in one group."""
        return cdiv(self.group_channels, self.tile.vectors * self.tile.lanes)

    @property
    def reduction_block(self) -> int:
        """Input channels in the innermost loop: a divisor of the group's channels near the vector length."""
        channels = self.task.c // self.task.groups
        return max(d for d in range(1, min(channels, 16) + 1) if channels % d == 0)

    @property
    def padded_input(self) -> tuple[int, int]:
        """Rows and columns that whole tiles read."""
        t = self.task
        rows = (self.row_tiles * self.tile.rows - 1) * t.stride[0] + (t.r - 1) * t.dilation[0] + 1
        columns = (self.pixel_tiles * self.tile.pixels - 1) * t.stride[1] + (t.s - 1) * t.dilation[1] + 1
        return rows, columns

    @property
    def needs_copy(self) -> bool:
        """Whether tiles read outside the input, so that the rows must be copied into a padded buffer first."""
        rows, columns = self.padded_input
        return any(self.task.pad) or rows > self.task.h or columns > self.task.w


def pack_weight(geometry: Geometry, weight: np.ndarray) -> np.ndarray:
    """``(k, c/g, r, s)`` to ``[g, ko, co, r, s, ci, vectors, lanes]``, zero where channels are padded."""
    t, tile = geometry.task, geometry.tile
    cb, cg, kg = geometry.reduction_block, t.c // t.groups, geometry.group_channels
    padded = np.zeros((t.groups, geometry.channel_blocks * tile.vectors * tile.lanes, cg, t.r, t.s), np.float32)
    padded[:, :kg] = weight.reshape(t.groups, kg, cg, t.r, t.s)
    shape = (t.groups, geometry.channel_blocks, tile.vectors, tile.lanes, cg // cb, cb, t.r, t.s)
    return np.ascontiguousarray(padded.reshape(shape).transpose(0, 1, 4, 6, 7, 5, 2, 3))


def pack(geometry: Geometry, params: list[np.ndarray]) -> list[np.ndarray]:
    """Weight and per-channel constants as :func:`prim_func` wants them."""
    return [pack_weight(geometry, params[0]), *pad_channels(params[1:], _constant_length(geometry))]


def _constant_length(geometry: Geometry) -> int:
    return cdiv(geometry.task.k, geometry.tile.lanes) * geometry.tile.lanes


def compute(geometry: Geometry, layouts: Layouts) -> list[te.Tensor]:
    """The algorithm. Returns (data, tensors..., weight, constants..., output)."""
    t, tile = geometry.task, geometry.tile
    data_layout, out_layout = Layout(layouts.inputs[0]), Layout(layouts.output)
    cb, cg, kg = geometry.reduction_block, t.c // t.groups, geometry.group_channels
    data = te.placeholder(data_layout.physical_shape((t.n, t.c, t.h, t.w)), "float32", name="data")
    weight = te.placeholder(
        (t.groups, geometry.channel_blocks, cg // cb, t.r, t.s, cb, tile.vectors, tile.lanes), "float32", name="weight"
    )
    source = data
    top, left = 0, 0
    if geometry.needs_copy:
        rows, columns = geometry.padded_input
        top, left = t.pad[0], t.pad[1]

        def padded(*axes: Any) -> Any:
            n, c, h, w = data_layout.logical_index(*axes)
            inside = tirx.all(h >= top, h < t.h + top, w >= left, w < t.w + left)
            return tirx.if_then_else(inside, data[_shift(data_layout, axes, top, left)], tirx.const(0.0, "float32"))

        source = te.compute(data_layout.physical_shape((t.n, t.c, rows, columns)), padded, name="padded")

    co = te.reduce_axis((0, cg // cb), name="co")
    ci = te.reduce_axis((0, cb), name="ci")
    r = te.reduce_axis((0, t.r), name="r")
    s = te.reduce_axis((0, t.s), name="s")

    def tile_element(n: Any, g: Any, ko: Any, ho: Any, wo: Any, hi: Any, wi: Any, v: Any, lane: Any) -> Any:
        h = (ho * tile.rows + hi) * t.stride[0] + r * t.dilation[0]
        w = (wo * tile.pixels + wi) * t.stride[1] + s * t.dilation[1]
        x = source[data_layout.physical_index(n, g * cg + co * cb + ci, h, w)]
        return te.sum(x * weight[g, ko, co, r, s, ci, v, lane], axis=[co, r, s, ci])

    acc = te.compute(
        (t.n, t.groups, geometry.channel_blocks, geometry.row_tiles, geometry.pixel_tiles,
         tile.rows, tile.pixels, tile.vectors, tile.lanes),
        tile_element,
        name="acc",
    )  # fmt: skip
    tensors, constants, read_tensor, read_constant = epilogue_placeholders(
        t, layouts.output, _constant_length(geometry)
    )

    def store(*axes: Any) -> Any:
        n, k, h, w = out_layout.logical_index(*axes)
        g, kk = (k // kg, k % kg) if t.groups > 1 else (0, k)
        vector = kk // tile.lanes
        value = acc[
            n, g, vector // tile.vectors, h // tile.rows, w // tile.pixels,
            h % tile.rows, w % tile.pixels, vector % tile.vectors, kk % tile.lanes,
        ]  # fmt: skip
        return ep.apply(value, t.steps, read_constant, read_tensor, (n, k, h, w))

    out = te.compute(out_layout.physical_shape(t.output_shape), store, name="out")
    return [data, *tensors, weight, *constants, out]


def _shift(layout: Layout, axes: tuple[Any, ...], top: int, left: int) -> tuple[Any, ...]:
    """Physical axes moved by the padding, without splitting and re-joining the channel index."""
    h_axis = {"NCHW": 2, "NHWC": 1}.get(layout.name, 2)
    moved = list(axes)
    moved[h_axis] = axes[h_axis] - top
    moved[h_axis + 1] = axes[h_axis + 1] - left
    return tuple(moved)


def prim_func(geometry: Geometry, layouts: Layouts, machine: Machine) -> tvm.tirx.PrimFunc:
    """Algorithm and schedule."""
    sch = tvm.s_tir.Schedule(te.create_prim_func(compute(geometry, layouts)))
    t, tile = geometry.task, geometry.tile
    out, acc = sch.get_sblock("out"), sch.get_sblock("acc")
    n, g, k, h, w, lane = _output_loops(sch, out, geometry, layouts.output)
    ko, v = sch.split(k, [None, tile.vectors])
    rows_in_block, tiles_in_block = block(geometry, machine)
    ho, row, hi = sch.split(h, [None, rows_in_block, tile.rows])
    wb, wo, wi = sch.split(w, [None, tiles_in_block, tile.pixels])
    sch.reorder(n, ho, wb, g, ko, row, wo, hi, wi, v, lane)
    blocks = t.n * cdiv(geometry.row_tiles, rows_in_block) * cdiv(geometry.pixel_tiles, tiles_in_block)
    channel_chunks = _channel_chunks(geometry, blocks, machine)
    if channel_chunks > 1:
        if t.groups > 1 and t.groups >= channel_chunks:
            par = sch.fuse(n, ho, wb, g)
        else:
            kp, ko = sch.split(ko, [channel_chunks, None])
            sch.reorder(n, ho, wb, kp, g, ko)
            par = sch.fuse(n, ho, wb, kp)
    else:
        par = sch.fuse(n, ho, wb)
    sch.parallel(par)
    sch.compute_at(acc, wo, preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    if geometry.needs_copy:
        copy = sch.get_sblock("padded")
        sch.compute_at(copy, par, preserve_unit_loops=True)
        inner = sch.get_loops(copy)[-1]
        _, lanes = sch.split(inner, [None, min(tile.lanes, _extent(layouts.inputs[0], geometry))])
        sch.vectorize(lanes)
    *_, hi_, wi_, v_, lane_, co_, r_, s_, ci_ = sch.get_loops(acc)
    sch.reorder(co_, r_, s_, ci_, hi_, wi_, v_, lane_)
    sch.vectorize(lane_)
    for loop in (v_, wi_, hi_):
        sch.unroll(loop)
    sch.vectorize(lane)
    for loop in (v, wi, hi):
        sch.unroll(loop)
    sch.decompose_reduction(acc, co_)
    return sch.mod["main"]


def _extent(layout: str, geometry: Geometry) -> int:
    block = Layout(layout).block
    return block or (geometry.task.c if layout == "NHWC" else geometry.padded_input[1])


def _output_loops(sch: Any, out: Any, geometry: Geometry, layout: str) -> tuple[Any, ...]:
    """Loops (n, group, channel vector, h, w, lane) over the output block, whatever its layout."""
    lanes, groups = geometry.tile.lanes, geometry.task.groups
    vectors = cdiv(geometry.group_channels, lanes)
    if layout == "NHWC":
        n, h, w, k = sch.get_loops(out)
        if groups > 1:
            g, k = sch.split(k, [groups, None])
        else:
            g, k = sch.split(k, [1, None])
        k, lane = sch.split(k, [vectors, lanes])
    else:
        n, k, h, w, lane = sch.get_loops(out)
        g, k = sch.split(k, [groups, None])
    return n, g, k, h, w, lane


def block(geometry: Geometry, machine: Machine) -> tuple[int, int]:
    """Tile rows, and tiles in each, of one block: its input leaves most of L2 to weights and output."""
    t, tile = geometry.task, geometry.tile
    limit = machine.l2_bytes * 3 // 8
    columns = geometry.padded_input[1]
    if not geometry.needs_copy:  # a stride longer than the window leaves rows and pixels out
        columns = min(columns, geometry.pixel_tiles * tile.pixels * t.s)

    def fits(tile_rows: int) -> bool:
        rows = (tile_rows * tile.rows - 1) * t.stride[0] + (t.r - 1) * t.dilation[0] + 1
        if not geometry.needs_copy:
            rows = min(rows, tile_rows * tile.rows * t.r)
        return 4 * t.c * columns * rows <= limit

    rows = max((n for n in range(1, geometry.row_tiles + 1) if fits(n)), default=1)
    tiles = geometry.pixel_tiles
    if geometry.row_tiles == 1 and not geometry.needs_copy:  # one long row: the flat view
        fitting = limit // (4 * t.c * tile.pixels)
        tiles = _even(tiles, max(1, min(fitting, cdiv(tiles, machine.threads))))
    return _even(geometry.row_tiles, min(rows, cdiv(geometry.row_tiles, machine.threads))), tiles


def _even(total: int, limit: int) -> int:
    """The block size <= limit that divides ``total`` if there is one not much smaller, else the evenest split."""
    divisors = [d for d in range(max(1, limit // 2), limit + 1) if total % d == 0]
    return max(divisors) if divisors else cdiv(total, cdiv(total, limit))


def _channel_chunks(geometry: Geometry, blocks: int, machine: Machine) -> int:
    """Into how many parts the output channels are dealt to threads when the row blocks alone do not balance them."""
    if machine.threads == 1 or blocks % machine.threads == 0 or blocks >= 8 * machine.threads:
        return 1
    total = geometry.channel_blocks
    wanted = machine.threads // math.gcd(machine.threads, blocks)
    options = [d for d in range(1, total + 1) if total % d == 0 and d % wanted == 0]
    return min(options, default=min((d for d in range(2, total + 1) if total % d == 0), default=1))


def workspace_bytes(geometry: Geometry) -> int:
    """Padded copy of the input rows, for the whole map at most."""
    if not geometry.needs_copy:
        return 0
    rows, columns = geometry.padded_input
    return 4 * geometry.task.c * rows * columns
