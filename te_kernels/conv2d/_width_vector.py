"""Convolution in NCHW with vectors of output positions: the algorithm behind direct_nchw, im2col and 1x1 in NCHW.

The output map of a block of rows is seen as one line of positions, ``row`` floats from one output row to the next, and
cut into vectors regardless of where rows end; so a 7x7 map fills vectors as well as a 112x112 one. A register tile
holds ``channels x vectors`` vectors; for each element of the reduction it loads ``vectors`` vectors of input and
broadcasts ``channels`` weights:

    for n, block of rows, g:                            parallel (with parts of k where the rows are few)
      source = input rows, arranged so that every window element of a line is contiguous
      for part of k:
        for tile of vectors, block of channels in the part:
          acc[channels, vectors, V] = 0
          for c, r, s:
            acc[i, v] += W[i, c, r, s] * source[c, r, s, position]
        out = epilogue(acc), cropped to the map

``source`` is one of
- ``shifted``: the padded rows, split by stride phase; element (r, s) is the line moved by ``a*row + b``. Rows keep the
  padding between them, so (s-1)*dilation positions of each row are computed for nothing;
- ``columns``: the im2col buffer, one line for each c, r, s; no position is wasted, the buffer is r*s times as large;
- ``strips``: the compact matrix of MEC (Cho and Brand, ICML 2017), lowered along the width only: one line of padded
  input rows for each c, s, of which element r is moved by whole rows; no position is wasted, s times as large;
- ``none``: the input itself, for a 1x1 convolution whose map the tiles divide.

In the ``kn2`` form of ``shifted``, r and s are the outermost loops over a part of k: r*s products of 1x1 convolutions,
each added to ``total``, as in kn2row (Vasudevan, Anderson and Gregg, ASAP 2017) but for a block of rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from te_kernels import epilogue as ep
from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.tiling import cdiv
from te_kernels.variant import epilogue_placeholders


@dataclass(frozen=True)
class Geometry:
    """Loop bounds of one task: source kind, output rows in a block, output channels and vectors in a register tile."""

    task: ConvTask
    source: str
    rows: int
    channels: int
    vectors: int
    lanes: int
    kn2: bool = False

    @property
    def row(self) -> int:
        """Positions from one output row to the next on the line."""
        t = self.task
        return t.ow + ((t.s - 1) * t.dilation[1] // t.stride[1] if self.source == "shifted" else 0)

    @property
    def row_blocks(self) -> int:
        return cdiv(self.task.oh, self.rows)

    @property
    def tile(self) -> int:
        """Positions in a register tile."""
        return self.vectors * self.lanes

    @property
    def tiles(self) -> int:
        """Register tiles that cover the line of one block of rows."""
        return cdiv((self.rows - 1) * self.row + self.task.ow, self.tile)

    @property
    def channel_blocks(self) -> int:
        """Register tiles that cover the output channels of one group."""
        return cdiv(self.task.k // self.task.groups, self.channels)

    @property
    def planes(self) -> tuple[int, int]:
        """Lines of the source for each channel: stride phases, or window elements."""
        t = self.task
        if self.source == "columns":
            return t.r, t.s
        if self.source == "strips":
            return max(i * t.dilation[0] % t.stride[0] for i in range(t.r)) + 1, t.s
        phases = [
            max(i * d % st for i in range(n)) + 1 for n, d, st in zip((t.r, t.s), t.dilation, t.stride, strict=True)
        ]
        return phases[0], phases[1]

    @property
    def source_rows(self) -> int:
        """Rows of ``row`` floats in one line of the source, overshoot included."""
        t = self.task
        furthest = self.tiles * self.tile
        if self.source in ("shifted", "strips"):
            furthest += (t.r - 1) * t.dilation[0] // t.stride[0] * self.row
        if self.source == "shifted":
            furthest += (t.s - 1) * t.dilation[1] // t.stride[1]
        return cdiv(furthest, self.row)

    @property
    def source_bytes(self) -> int:
        """Size of the source of one block of rows and one group."""
        if self.source == "none":
            return 0
        return 4 * (self.task.c // self.task.groups) * self.planes[0] * self.planes[1] * self.source_rows * self.row

    @property
    def exact(self) -> bool:
        """Whether the tiles cover nothing but the map, so that they can be stored as they are."""
        return self.row == self.task.ow and self.tiles * self.tile == self.rows * self.task.ow

    @property
    def storable(self) -> bool:
        """Whether tiles can be stored from registers: TIR inverts the index of a tile only where it nests with rows."""
        ow = self.task.ow
        nests = ow % self.tile == 0 or self.tile % ow == 0
        return self.exact and nests and self.task.oh % self.rows == 0 and not self.kn2

    @property
    def in_place(self) -> bool:
        """Whether the tiles could read the input itself."""
        return self.task.pointwise and self.exact and self.task.oh % self.rows == 0


def pack(geometry: Geometry, params: list[np.ndarray]) -> list[np.ndarray]:
    """Weight as [g, k block, c, r, s, channels], zero where channels are padded; constants unchanged."""
    t = geometry.task
    kg, blocks, channels = t.k // t.groups, geometry.channel_blocks, geometry.channels
    padded = np.zeros((t.groups, blocks * channels, t.c // t.groups, t.r, t.s), np.float32)
    padded[:, :kg] = params[0].reshape(t.groups, kg, t.c // t.groups, t.r, t.s)
    weight = padded.reshape(t.groups, blocks, channels, t.c // t.groups, t.r, t.s).transpose(0, 1, 3, 4, 5, 2)
    return [np.ascontiguousarray(weight), *params[1:]]


def _source(geometry: Geometry, data: te.Tensor) -> te.Tensor:
    """The lines that one block of rows reads: [n, row block, c, plane, plane, row, column]."""
    t = geometry.task
    (top, left, _, _), (sh, sw), (dh, dw) = t.pad, t.stride, t.dilation
    columns, strips = geometry.source == "columns", geometry.source == "strips"

    def element(n: Any, block: Any, c: Any, i: Any, j: Any, h: Any, w: Any) -> Any:
        y = (block * geometry.rows + h) * sh + (i * dh if columns else i) - top
        x = w * sw + (j * dw if columns or strips else j) - left
        zero = tirx.const(0.0, "float32")
        in_row = tirx.if_then_else(tirx.all(x >= 0, x < t.w), data[n, c, y, x], zero)
        return tirx.if_then_else(tirx.all(y >= 0, y < t.h), in_row, zero)

    shape = (t.n, geometry.row_blocks, t.c, *geometry.planes, geometry.source_rows, geometry.row)
    return te.compute(shape, element, name="source")


def compute(geometry: Geometry) -> list[te.Tensor]:
    """The algorithm. Returns (data, tensors..., weight, constants..., output)."""
    t = geometry.task
    cg = t.c // t.groups
    (sh, sw), (dh, dw) = t.stride, t.dilation
    data = te.placeholder((t.n, t.c, t.h, t.w), "float32", name="data")
    weight = te.placeholder(
        (t.groups, geometry.channel_blocks, cg, t.r, t.s, geometry.channels), "float32", name="weight"
    )
    source = None if geometry.source == "none" else _source(geometry, data)
    c = te.reduce_axis((0, cg), name="c")
    r = te.reduce_axis((0, t.r), name="r")
    s = te.reduce_axis((0, t.s), name="s")

    def product(r: Any, s: Any, nb: Any, gk: Any, ki: Any, q: Any) -> Any:
        n, block = nb // geometry.row_blocks, nb % geometry.row_blocks
        g, kb = gk // geometry.channel_blocks, gk % geometry.channel_blocks
        channel = g * cg + c
        if source is None:
            p = block * (geometry.rows * t.ow) + q
            x = data[n, channel, p // t.w, p % t.w]
        elif geometry.source == "columns":
            x = source[n, block, channel, r, s, q // geometry.row, q % geometry.row]
        elif geometry.source == "strips":
            q = q + r * dh // sh * geometry.row
            x = source[n, block, channel, r * dh % sh, s, q // geometry.row, q % geometry.row]
        else:
            q = q + r * dh // sh * geometry.row + s * dw // sw
            x = source[n, block, channel, r * dh % sh, s * dw % sw, q // geometry.row, q % geometry.row]
        return weight[g, kb, c, r, s, ki] * x

    # four axes, as many as the output has, because annotate_buffer_access wants it so
    blocks = (t.n * geometry.row_blocks, t.groups * geometry.channel_blocks)
    shape = (*blocks, geometry.channels, geometry.tiles * geometry.tile)
    if geometry.kn2:
        partial = te.compute((t.r, t.s, *shape), lambda *i: te.sum(product(*i), axis=[c]), name="acc")
        acc = te.compute(shape, lambda *i: te.sum(partial[(r, s, *i)], axis=[r, s]), name="total")
    else:
        acc = te.compute(shape, lambda *i: te.sum(product(r, s, *i), axis=[c, r, s]), name="acc")
    tensors, constants, read_tensor, read_constant = epilogue_placeholders(t, "NCHW")

    def store(*index: Any) -> Any:
        nb, gk, ki, q = _where(geometry, *index)
        return ep.apply(acc[nb, gk, ki, q], t.steps, read_constant, read_tensor, index)

    out = te.compute(t.output_shape, store, name="out")
    return [data, *tensors, weight, *constants, out]


def _where(geometry: Geometry, n: Any, k: Any, h: Any, w: Any) -> tuple[Any, Any, Any, Any]:
    """Accumulator of an output element: (block of rows, block of channels, channel, position on the line)."""
    kg = geometry.task.k // geometry.task.groups
    g, kk = (k // kg, k % kg) if geometry.task.groups > 1 else (0, k)
    q = h % geometry.rows * geometry.row + w
    block = n * geometry.row_blocks + h // geometry.rows
    return block, g * geometry.channel_blocks + kk // geometry.channels, kk % geometry.channels, q


def prim_func(geometry: Geometry, machine: Machine) -> tvm.tirx.PrimFunc:
    """Algorithm and schedule."""
    t, lanes = geometry.task, geometry.lanes
    sch = tvm.s_tir.Schedule(te.create_prim_func(compute(geometry)))
    out, acc = sch.get_sblock("out"), sch.get_sblock("acc")
    total = sch.get_sblock("total") if geometry.kn2 else acc
    n, k, h, w = sch.get_loops(out)
    block, hi = sch.split(h, [None, geometry.rows])
    g, gi, k = sch.split(k, [None, _groups_together(geometry, machine), t.k // t.groups])
    chunk = _chunk(geometry, machine)
    part, kb, ki = sch.split(k, [None, chunk, geometry.channels])
    sch.reorder(n, block, g, gi, part, kb, ki, hi, w)
    outer = [n, block]
    if t.groups > 1:
        outer.append(g)  # no two groups share input
    elif machine.threads > 1 and t.n * geometry.row_blocks < 4 * machine.threads:
        outer += [g, gi, part]
    par = sch.fuse(*outer)
    sch.parallel(par)
    if (
        geometry.exact
        and not geometry.kn2
        and t.oh % geometry.rows == 0
        and (t.ow % geometry.tile == 0 or geometry.tile % t.ow == 0)
    ):
        line = sch.fuse(hi, w)
        tile, position = sch.split(line, [None, geometry.tile])
        v, lane = sch.split(position, [None, lanes])
        sch.reorder(tile, kb, ki, v, lane)
        sch.compute_at(total, kb, preserve_unit_loops=True)
        sch.unroll(ki)
        sch.unroll(v)
        sch.vectorize(lane)
    else:
        _claim_whole_tiles(sch, out, geometry)
        whole = len(outer) > 2  # a part of k is all there is in one iteration
        sch.compute_at(total, par if whole else part, preserve_unit_loops=True)
        line, extent = w, t.ow
        if geometry.row == t.ow and t.oh % geometry.rows == 0:
            line, extent = sch.fuse(hi, w), t.ow * geometry.rows
    if geometry.kn2:
        *_, kb_, ki_, q_, window_, s_ = sch.get_loops(total)
        tile_, v_, lane_ = sch.split(q_, [None, geometry.vectors, lanes])
        sch.reorder(window_, s_, tile_, kb_, ki_, v_, lane_)
        sch.vectorize(lane_)
        sch.unroll(v_)
        sch.compute_at(acc, kb_, preserve_unit_loops=True)
    if geometry.source != "none":
        sch.compute_at(sch.get_sblock("source"), par, preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    *_, kb_, ki_, q_, c_ = sch.get_loops(acc)[: None if geometry.kn2 else -2]
    window = [] if geometry.kn2 else sch.get_loops(acc)[-2:]
    tile_, v_, lane_ = sch.split(q_, [None, geometry.vectors, lanes])
    # the shorter of the two sits in registers, the longer passes over it
    inner = (ki_, v_) if geometry.channels >= geometry.vectors else (v_, ki_)
    sch.reorder(tile_, kb_, c_, *window, *inner, lane_)  # r, s inside c: their vectors overlap in L1
    sch.vectorize(lane_)
    sch.unroll(v_)
    sch.unroll(ki_)
    if not geometry.storable:
        _vectorize_line(sch, line, extent, lanes)
    if geometry.source != "none":
        _part_padding(sch, geometry)
    sch.decompose_reduction(acc, c_)
    if geometry.kn2:
        sch.decompose_reduction(total, window_)
    return sch.mod["main"]


def _groups_together(geometry: Geometry, machine: Machine) -> int:
    """Groups in one iteration, as many as fit L1 together: an iteration allocates its buffers anew."""
    t = geometry.task
    results = 4 * geometry.channel_blocks * geometry.channels * geometry.tiles * geometry.tile
    limit = min(t.groups // machine.threads, machine.l1_bytes // 2 // (geometry.source_bytes + results))
    return max((d for d in range(2, limit + 1) if t.groups % d == 0), default=1)


def _part_padding(sch: tvm.s_tir.Schedule, geometry: Geometry) -> None:
    """Copy the columns that lie inside the input for every line without a condition, so that LLVM vectorises them."""
    t = geometry.task
    last_line = geometry.planes[1] - 1 if geometry.source == "shifted" else (t.s - 1) * t.dilation[1]
    first = cdiv(t.pad[1], t.stride[1])
    end = min((t.w - 1 + t.pad[1] - last_line) // t.stride[1] + 1, geometry.row)
    if end - first >= geometry.lanes // 2 and (first > 0 or end < geometry.row):
        *_, phase, row, column = sch.get_loops(sch.get_sblock("source"))
        if geometry.source == "shifted" and geometry.planes[1] > 1:
            sch.reorder(row, column, phase)  # all phases of a column are neighbours: read whole vectors and shuffle
            sch.unroll(phase)
        parts = [first] * (first > 0) + [end - first] * (end < geometry.row)
        sch.loop_partition(column, parts)


def _vectorize_line(sch: tvm.s_tir.Schedule, line: Any, extent: int, lanes: int) -> None:
    """Whole vectors, then ever shorter ones: left alone, LLVM vectorises across rows with gathers and scatters."""
    sizes, parts, rest = [], [], extent
    while lanes and rest:
        if rest >= lanes:
            sizes.append(lanes)
            parts.append(rest // lanes * lanes)
            rest %= lanes
        lanes //= 2
    loops = sch.loop_partition(line, parts[:-1]) if len(parts) > 1 else [line]
    for loop, size in zip(loops, sizes, strict=True):
        if size == sizes[0]:
            _, loop = sch.split(loop, [None, size])
        sch.vectorize(loop)


def _claim_whole_tiles(sch: tvm.s_tir.Schedule, out: Any, geometry: Geometry) -> None:
    """Let the store claim to read whole register tiles.

    Else ``compute_at`` would shrink the last tile to the positions that are stored and guard every vector in it.
    """
    line = geometry.tiles * geometry.tile
    sch.annotate_buffer_access(out, 0, "read", lambda *index: (*_where(geometry, *index)[:3], (0, line)))


def _chunk(geometry: Geometry, machine: Machine) -> int:
    """Channel tiles that pass over one tile of positions before the next.

    The input of a tile is then read from L1 by all but the first of them. Their weights and results stay in L2.
    """
    t = geometry.task
    results = 4 * geometry.channels * geometry.tiles * geometry.tile
    weights = 4 * geometry.channels * (t.c // t.groups) * t.r * t.s
    limit = max(1, machine.l2_bytes // 4 // max(results, weights))
    if t.groups == 1 and machine.threads > 1:
        limit = min(limit, max(1, geometry.channel_blocks // machine.threads))
    parts = cdiv(geometry.channel_blocks, limit)
    return cdiv(geometry.channel_blocks, parts)


def workspace_bytes(geometry: Geometry) -> int:
    """The source of one block of rows and the accumulators of a block of channels, for one thread."""
    tile = geometry.channels * geometry.tiles * geometry.tile * 4
    return geometry.source_bytes + (0 if geometry.exact else tile)
