"""The reduction cut into blocks, and the im2row form, of the convolutions whose vectors are output channels.

``_output_stationary`` reads the weights of a register tile once for every tile of positions. That is free while they
stay in L2: c/g * r * s * vectors * lanes floats. Beyond (2048 channels, or 3x3 on 512) the reduction has to be cut:

    for n, block of rows, block of channels:            parallel
      for kc:                                           block of the reduction
        for tile of (rows x pixels):
          partial[rows, pixels, vectors, V] = sum over c in kc, r, s of x * W    in registers
          total[tile] += partial
      out = epilogue(total)

so that the weights of one kc serve every tile from L1 or L2 before the next are fetched: each weight crosses the L3
once. ``total`` holds one block of rows and ``vectors`` vectors of channels. On one Zen 5 core with 1 MB of L2, 3x3 on
1024x7x7 (1.2 MB of weights for two vectors) runs at 208 GFLOP/s cut and 173 uncut; 512x7x7 (0.6 MB) at 226 and 230.

``kn2`` is the same loop with kc running over the elements of the window: r*s products of 1x1 convolutions with shifted
inputs, each added to the total (Vasudevan, Anderson and Gregg, "Parallel Multi Channel Convolution using General Matrix
Multiplication", ASAP 2017; there for the whole map at once, here for a block of rows).

With ``im2row`` the input rows are first spelt out as rows of a matrix, [position, r, s, c], for one block of output
rows at a time so that they stay in L2; the products then read nothing but contiguous memory.

``mec`` spells out one axis only: [w, y, s, c] for output columns w and input rows y. The windows of the output rows at
one w are overlapping stretches of it, r rows long and one stride apart, so that the matrix is r times (for stride 1)
smaller than im2row's and its products are still over contiguous memory (Cho and Brand, "MEC: Memory-efficient
Convolution for Deep Neural Network", ICML 2017, algorithm 2; there for the whole map, here for a block of rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import te, tirx

from te_kernels import epilogue as ep
from te_kernels.conv2d._output_geometry import Geometry
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.tiling import cdiv, even_share
from te_kernels.variant import Layouts, epilogue_placeholders


@dataclass(frozen=True)
class Plan:
    """A direct geometry, its layout, and what one block of the reduction is.

    ``chunk`` is the number of the geometry's ``reduction_block``s in it. ``form`` is ``direct``, ``im2row``, ``mec`` or
    ``kn2``: each block of the reduction is one element of the window with all channels.
    """

    geometry: Geometry
    layout: str
    chunk: int
    form: str

    @property
    def chunks(self) -> int:
        """Blocks of the reduction."""
        t = self.geometry.task
        if self.form == "kn2":
            return t.r * t.s
        return t.c // t.groups // self.geometry.reduction_block // self.chunk

    @property
    def lowered(self) -> bool:
        """Whether the tiles read a matrix made of the input."""
        return self.form in ("im2row", "mec")

    @property
    def constant_length(self) -> int:
        """Length of the packed per-channel constants."""
        return cdiv(self.geometry.task.k, self.geometry.tile.lanes) * self.geometry.tile.lanes


def _source(plan: Plan, data: te.Tensor) -> te.Tensor:
    """What the tiles read: the input, its padded copy, [n, h, w, r, s, c] of im2row or [n, w, y, s, c] of MEC.

    h and w are those of the output, y is a row of the padded input.
    """
    geometry, layout = plan.geometry, Layout(plan.layout)
    t = geometry.task
    (top, left, _, _), (sh, sw), (dh, dw) = t.pad, t.stride, t.dilation

    def read(n: Any, c: Any, y: Any, x: Any) -> Any:
        inside = tirx.all(y >= 0, y < t.h, x >= 0, x < t.w)
        return tirx.if_then_else(inside, data[layout.physical_index(n, c, y, x)], tirx.const(0.0, "float32"))

    if plan.form == "im2row":
        rows, columns = geometry.row_tiles * geometry.tile.rows, geometry.pixel_tiles * geometry.tile.pixels
        return te.compute(
            (t.n, rows, columns, t.r, t.s, t.c),
            lambda n, h, w, r, s, c: read(n, c, h * sh + r * dh - top, w * sw + s * dw - left),
            name="source",
        )
    if plan.form == "mec":
        return te.compute(
            (t.n, geometry.pixel_tiles * geometry.tile.pixels, geometry.padded_input[0], t.s, t.c),
            lambda n, w, y, s, c: read(n, c, y - top, w * sw + s * dw - left),
            name="source",
        )
    if not geometry.needs_copy:
        return data
    rows, columns = geometry.padded_input
    if layout.block:
        return te.compute(
            layout.physical_shape((t.n, t.c, rows, columns)),
            lambda n, co, h, w, ci: read(n, co * layout.block + ci, h - top, w - left),
            name="source",
        )
    return te.compute((t.n, rows, columns, t.c), lambda n, h, w, c: read(n, c, h - top, w - left), name="source")


def compute(plan: Plan, layouts: Layouts) -> list[te.Tensor]:
    """The algorithm. Returns (data, tensors..., weight, constants..., output)."""
    geometry, layout = plan.geometry, Layout(plan.layout)
    t, tile = geometry.task, geometry.tile
    cb, cg, kg = geometry.reduction_block, t.c // t.groups, geometry.group_channels
    data = te.placeholder(layout.physical_shape((t.n, t.c, t.h, t.w)), "float32", name="data")
    weight = te.placeholder(
        (t.groups, geometry.channel_blocks, cg // cb, t.r, t.s, cb, tile.vectors, tile.lanes), "float32", name="weight"
    )
    source = _source(plan, data)
    co = te.reduce_axis((0, plan.chunk), name="co")
    ci = te.reduce_axis((0, cb), name="ci")
    kn2 = plan.form == "kn2"
    r = te.reduce_axis((0, 1 if kn2 else t.r), name="r")
    s = te.reduce_axis((0, 1 if kn2 else t.s), name="s")
    kc = te.reduce_axis((0, plan.chunks), name="kc")

    def tile_element(kc: Any, n: Any, g: Any, ko: Any, ho: Any, wo: Any, hi: Any, wi: Any, v: Any, lane: Any) -> Any:
        h, w = ho * tile.rows + hi, wo * tile.pixels + wi
        block, i, j = (co, kc // t.s, kc % t.s) if kn2 else (kc * plan.chunk + co, r, s)
        c = g * cg + block * cb + ci
        if plan.form == "im2row":
            x = source[n, h, w, r, s, c]
        elif plan.form == "mec":
            x = source[n, w, h * t.stride[0] + r * t.dilation[0], s, c]
        else:
            y, z = h * t.stride[0] + i * t.dilation[0], w * t.stride[1] + j * t.dilation[1]
            x = source[layout.physical_index(n, c, y, z)]
        return te.sum(x * weight[g, ko, block, i, j, ci, v, lane], axis=[co, r, s, ci])

    tiles = (t.n, t.groups, geometry.channel_blocks, geometry.row_tiles, geometry.pixel_tiles)
    shape = (*tiles, tile.rows, tile.pixels, tile.vectors, tile.lanes)
    partial = te.compute((plan.chunks, *shape), tile_element, name="partial")
    total = te.compute(shape, lambda *i: te.sum(partial[(kc, *i)], axis=[kc]), name="total")
    tensors, constants, read_tensor, read_constant = epilogue_placeholders(t, layouts.output, plan.constant_length)

    def store(*axes: Any) -> Any:
        n, k, h, w = layout.logical_index(*axes)
        g, kk = (k // kg, k % kg) if t.groups > 1 else (0, k)
        vector = kk // tile.lanes
        value = total[
            n, g, vector // tile.vectors, h // tile.rows, w // tile.pixels,
            h % tile.rows, w % tile.pixels, vector % tile.vectors, kk % tile.lanes,
        ]  # fmt: skip
        return ep.apply(value, t.steps, read_constant, read_tensor, (n, k, h, w))

    out = te.compute(layout.physical_shape(t.output_shape), store, name="out")
    return [data, *tensors, weight, *constants, out]


def prim_func(plan: Plan, layouts: Layouts, machine: Machine) -> tvm.tirx.PrimFunc:
    """Algorithm and schedule."""
    sch = tvm.s_tir.Schedule(te.create_prim_func(compute(plan, layouts)))
    geometry, tile, t = plan.geometry, plan.geometry.tile, plan.geometry.task
    out, total, partial = sch.get_sblock("out"), sch.get_sblock("total"), sch.get_sblock("partial")
    if plan.layout == "NHWC":
        n, h, w, k = sch.get_loops(out)
        g, k = sch.split(k, [t.groups, None])
        k, lane = sch.split(k, [None, tile.lanes])
    else:
        n, k, h, w, lane = sch.get_loops(out)
        g, k = sch.split(k, [t.groups, None])
    ko, v = sch.split(k, [None, tile.vectors])
    rows, columns = block(plan, machine)
    ho, row, hi = sch.split(h, [None, rows, tile.rows])
    wb, wo, wi = sch.split(w, [None, columns, tile.pixels])
    sch.reorder(n, ho, wb, g, ko, row, wo, hi, wi, v, lane)
    sch.unroll(hi)
    blocks = cdiv(geometry.row_tiles, rows) * cdiv(geometry.pixel_tiles, columns)
    outer = [n, ho, wb]
    if machine.threads > 1 and t.n * blocks < 4 * machine.threads and t.n * blocks % machine.threads:
        outer += [g, ko]
    par = sch.fuse(*outer)
    sch.parallel(par)
    sch.compute_at(total, par if len(outer) > 3 else ko, preserve_unit_loops=True)
    *_, tho, two, thi, twi, tv, tlane, kc = sch.get_loops(total)
    sch.reorder(kc, tho, two, thi, twi, tv, tlane)
    sch.compute_at(partial, two, preserve_unit_loops=True)
    sch.set_scope(partial, 0, "local")
    if plan.lowered or geometry.needs_copy:
        copy = sch.get_sblock("source")
        sch.compute_at(copy, par, preserve_unit_loops=True)
        extent = Layout(plan.layout).block or t.c
        if extent % tile.lanes == 0 and (len(outer) == 3 or t.groups == 1):
            _, lanes = sch.split(sch.get_loops(copy)[-1], [None, tile.lanes])
            sch.vectorize(lanes)
    *_, hi_, wi_, v_, lane_, co_, r_, s_, ci_ = sch.get_loops(partial)
    sch.reorder(co_, r_, s_, ci_, hi_, wi_, v_, lane_)
    for vector in (lane_, tlane, lane):
        sch.vectorize(vector)
    for loop in (v_, wi_, hi_, tv, twi, thi, v, wi):
        sch.unroll(loop)
    sch.decompose_reduction(partial, co_)
    sch.decompose_reduction(total, kc)
    return sch.mod["main"]


def block(plan: Plan, machine: Machine) -> tuple[int, int]:
    """Tile rows, and tiles in each, of one block: their input (or im2row matrix) fills at most half of L2."""
    geometry = plan.geometry
    t, tile = geometry.task, geometry.tile
    limit = machine.l2_bytes // 2
    if plan.form == "im2row":
        tile_row = 4 * tile.rows * geometry.pixel_tiles * tile.pixels * t.c * t.r * t.s
        halo = 0
    else:
        width = geometry.padded_input[1]
        if plan.form == "mec":
            width = geometry.pixel_tiles * tile.pixels * t.s
        tile_row = 4 * t.c * width * t.stride[0] * tile.rows
        halo = 4 * t.c * width * (t.r - 1) * t.dilation[0]
    columns = geometry.pixel_tiles
    if geometry.row_tiles == 1 and plan.form == "direct" and not geometry.needs_copy:  # one long row: the flat view
        columns = _share(columns, limit // (4 * t.c * tile.pixels), machine.threads)
    return _share(geometry.row_tiles, (limit - halo) // tile_row, machine.threads), columns


def _share(total: int, limit: int, threads: int) -> int:
    """An even share of at most ``limit`` and at most a thread's."""
    return even_share(total, max(1, min(limit, cdiv(total, threads))))


def workspace_bytes(plan: Plan) -> int:
    """Copy of the input rows (for the whole map at most), matrix of im2row or MEC, and totals of one block."""
    geometry = plan.geometry
    t, tile = geometry.task, geometry.tile
    positions = geometry.row_tiles * tile.rows * geometry.pixel_tiles * tile.pixels
    totals = 4 * positions * tile.vectors * tile.lanes
    if plan.form == "im2row":
        return totals + 4 * positions * t.c * t.r * t.s
    rows, columns = geometry.padded_input
    if plan.form == "mec":
        return totals + 4 * t.c * rows * geometry.pixel_tiles * tile.pixels * t.s
    return totals + (4 * t.c * rows * columns if geometry.needs_copy else 0)
