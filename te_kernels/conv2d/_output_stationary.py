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
output channels reads it. Rows of the window that lie in the padding are copied, but not multiplied (``_padding_rows``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from te_kernels import epilogue as ep
from te_kernels.conv2d._output_geometry import Geometry, blocks
from te_kernels.conv2d._weight_prefetch import ANNOTATION, with_prefetch
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.tiling import cdiv
from te_kernels.variant import Layouts, epilogue_placeholders, pad_channels


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
    tile = geometry.tile
    out, acc = sch.get_sblock("out"), sch.get_sblock("acc")
    n, g, k, h, w, lane = _output_loops(sch, out, geometry, layouts.output)
    ko, v = sch.split(k, [None, tile.vectors])
    dealt = blocks(geometry, machine)
    ho, row, hi = sch.split(h, [None, dealt.rows, tile.rows])
    wb, wo, wi = sch.split(w, [None, dealt.tiles, tile.pixels])
    sch.reorder(n, ho, wb, g, ko, row, wo, hi, wi, v, lane)
    if dealt.by_group(geometry):
        par = sch.fuse(n, ho, wb, g)
    elif dealt.channel_parts > 1:
        kp, ko = sch.split(ko, [dealt.channel_parts, None])
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
        runs, lanes = sch.split(inner, [None, min(tile.lanes, _extent(layouts.inputs[0], geometry))])
        sch.vectorize(lanes)
        if layouts.inputs[0] == "NCHW":  # conditions that differ between lanes would make scalar code
            sch.annotate(runs, "pragma_loop_partition_hint", 1)
    *_, hi_, wi_, v_, lane_, co_, r_, s_, ci_ = sch.get_loops(acc)
    sch.reorder(co_, r_, s_, ci_, hi_, wi_, v_, lane_)
    sch.vectorize(lane_)
    for loop in (v_, wi_, hi_):
        sch.unroll(loop)
    sch.vectorize(lane)
    for loop in (v, wi, hi):
        sch.unroll(loop)
    sch.annotate(ci_, ANNOTATION, 1)
    sch.decompose_reduction(acc, co_)
    return with_prefetch(sch.mod["main"], geometry, dealt, machine)


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


def workspace_bytes(geometry: Geometry) -> int:
    """Padded copy of the input rows, for the whole map at most."""
    if not geometry.needs_copy:
        return 0
    rows, columns = geometry.padded_input
    return 4 * geometry.task.c * rows * columns
