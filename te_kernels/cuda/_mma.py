"""Tiled matrix products on tensor cores: float16 operands, sums in float32 (``wmma``, 16 x 16 x 16).

    for z, tile of m, tile of n:                                  blockIdx
      for slice of k:                                             software pipeline of ``stages`` slices
        As[bm, bk + 8], Bs[bk, bn + 8] = slice of A, of B         16 bytes a thread, cp.async
        for k in slice (by 16):
          fragments of A and B from shared memory                 ``wm x wn`` fragments a warp
          acc += A * B                                            one instruction for each pair of fragments
      Cs[bm, bn] = acc                                            shared memory, in float32
      store(z, m, n, Cs)                                          epilogue fused, all threads, whole rows

Rows in shared memory are 8 values longer than the tile, which puts the rows of a fragment in different banks. The
operands are those of :mod:`te_kernels.cuda._gemm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.cuda._builder import block, guarded
from te_kernels.cuda._gemm import Operands, Product
from te_kernels.cuda._wmma import intrinsics

#: Rows, columns and depth of one instruction.
FRAGMENT = 16
_PADDING = 8
_WARP = 32
_SHARED = "shared.dyn"


@dataclass(frozen=True)
class WarpTile:
    """Blocking: tile of a block, slice of k, fragments of a warp, slices in flight."""

    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    stages: int

    @property
    def warps(self) -> tuple[int, int]:
        """Warps along m and n."""
        return self.bm // (FRAGMENT * self.wm), self.bn // (FRAGMENT * self.wn)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.warps[0] * self.warps[1] * _WARP

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: the slices, and the result in float32."""
        slices = 2 * self.stages * (self.bm * (self.bk + _PADDING) + self.bk * (self.bn + _PADDING))
        return slices + 4 * self.bm * (self.bn + _PADDING)


def prim_func(product: Product, tile: WarpTile, operands: Operands, tensorize: bool = True) -> tvm.tirx.PrimFunc:
    """The scheduled kernel; without ``tensorize`` its fragments are loops, which any target can run."""
    sch = tvm.s_tir.Schedule(_algorithm(product, tile, operands))
    _schedule(sch, product, tile, tensorize)
    operands.schedule(sch)
    return sch.mod["main"]


def _algorithm(product: Product, tile: WarpTile, operands: Operands) -> tvm.tirx.PrimFunc:
    m_size, n_size, k_size = product.padded(tile)
    splits, va, vb = product.splits, product.a_vector, product.b_vector
    z_size, k_size = product.batch * splits, k_size // splits
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        operands.declare()
        operands.before()
        a_tile = T.sblock_alloc_buffer((z_size, m_size, k_size), operands.dtype, scope=_SHARED)
        b_tile = T.sblock_alloc_buffer((z_size, k_size, n_size), operands.dtype, scope=_SHARED)
        acc = T.sblock_alloc_buffer((z_size, m_size, n_size), "float32", scope="wmma.accumulator")
        c_tile = T.sblock_alloc_buffer((z_size, m_size, n_size), "float32", scope=_SHARED)
        with block("a_tile", z_size, m_size, k_size // va, va) as (z, m, run, lane):
            value = operands.a(z // splits, m, z % splits * k_size + run * va, lane)
            T.buffer_store(a_tile, value, [z, m, run * va + lane])
        with block("b_tile", z_size, k_size, n_size // vb, vb) as (z, k, run, lane):
            value = operands.b(z // splits, z % splits * k_size + k, run * vb, lane)
            T.buffer_store(b_tile, value, [z, k, run * vb + lane])
        with block("acc", z_size, m_size, n_size, reductions=(k_size,)) as (z, m, n, k):
            with T.init():
                T.buffer_store(acc, tirx.const(0.0, "float32"), [z, m, n])
            product_value = a_tile[z, m, k].astype("float32") * b_tile[z, k, n].astype("float32")
            T.buffer_store(acc, acc[z, m, n] + product_value, [z, m, n])
        with block("c_tile", z_size, m_size, n_size) as (z, m, n):
            T.buffer_store(c_tile, acc[z, m, n], [z, m, n])
        partial = T.sblock_alloc_buffer((z_size, m_size, n_size), "float32") if splits > 1 else None
        run = product.store_vector
        with block("out", z_size, m_size, n_size // run, run) as (z, m, n_run, lane):
            n = n_run * run + lane
            if partial is not None:
                T.buffer_store(partial, c_tile[z, m, n], [z, m, n])
            else:
                conditions = [] if m_size == product.m else [m < product.m]
                conditions += [] if n_size == product.n else [n_run < product.n // run]
                with guarded(conditions):
                    operands.store(z, m, n, c_tile[z, m, n])
        if partial is not None:
            with block("sum", product.batch, product.m, product.n) as (z, m, n):
                total = partial[z * splits, m, n]
                for split in range(1, splits):
                    total = total + partial[z * splits + split, m, n]
                operands.store(z, m, n, total)
        operands.after()
    return builder.get()


def _schedule(sch: Any, product: Product, tile: WarpTile, tensorize: bool) -> None:
    acc, c_tile, out = (sch.get_sblock(name) for name in ("acc", "c_tile", "out"))
    z, m, n, k = sch.get_loops(acc)
    m_warps, n_warps = tile.warps
    m_tile, m_warp, m_fragment, m_inner = sch.split(m, [None, m_warps, tile.wm, FRAGMENT])
    n_tile, n_warp, n_fragment, n_inner = sch.split(n, [None, n_warps, tile.wn, FRAGMENT])
    slices, k_fragment, k_inner = sch.split(k, [None, tile.bk // FRAGMENT, FRAGMENT])
    sch.reorder(
        z, m_tile, n_tile, m_warp, n_warp, slices, k_fragment, m_fragment, n_fragment, m_inner, n_inner, k_inner
    )
    sch.bind(z, "blockIdx.y")
    tiles = sch.fuse(m_tile, n_tile)
    sch.bind(tiles, "blockIdx.x")
    warps = sch.fuse(m_warp, n_warp)
    sch.bind(warps, "threadIdx.y")

    sch.reverse_compute_at(c_tile, warps, preserve_unit_loops=True)
    sch.reverse_compute_at(out, tiles, preserve_unit_loops=True)
    _, _, _, rows, columns, lanes = _last(sch, out, 6)
    _together(sch, sch.fuse(rows, columns), lanes, m_warps * n_warps)
    for name in ("a_tile", "b_tile"):
        copy = sch.get_sblock(name)
        sch.compute_at(copy, slices, preserve_unit_loops=True)
        *_, outer, inner, lanes = sch.get_loops(copy)
        _together(sch, sch.fuse(outer, inner), lanes, m_warps * n_warps)
        sch.storage_align(copy, 0, axis=-2, factor=FRAGMENT, offset=_PADDING)
    a_load = sch.cache_read(acc, 0, "wmma.matrix_a")
    b_load = sch.cache_read(acc, 1, "wmma.matrix_b")
    for load in (a_load, b_load):
        sch.compute_at(load, k_fragment, preserve_unit_loops=True)
    if tile.stages > 1:
        sch.annotate(slices, "software_pipeline_stage", [0, 0, tile.stages - 1])
        sch.annotate(slices, "software_pipeline_order", [0, 1, 2])
        sch.annotate(slices, "software_pipeline_async_stages", [0])
    fill = sch.decompose_reduction(acc, slices)
    fragments = {
        "init": _fragment_loop(sch, fill), "load_a": _fragment_loop(sch, a_load), "load_b": _fragment_loop(sch, b_load),
        "compute": m_inner, "store": _fragment_loop(sch, c_tile),
    }  # fmt: skip
    for loop in (k_fragment, m_fragment, n_fragment):
        sch.unroll(loop)
    if tensorize:
        names = intrinsics()
        for part, loop in fragments.items():
            sch.tensorize(loop, names[part])
    if product.splits > 1:
        fused = sch.fuse(*sch.get_loops(sch.get_sblock("sum")))
        blocks, threads, lanes = sch.split(fused, [None, 128, product.store_vector])
        sch.bind(blocks, "blockIdx.x")
        sch.bind(threads, "threadIdx.x")
        sch.vectorize(lanes)


def _last(sch: Any, target: Any, count: int) -> list[Any]:
    return list(sch.get_loops(target))[-count:]


def _together(sch: Any, runs: Any, lanes: Any, warps: int) -> None:
    """All threads take runs in turns, neighbouring threads neighbouring runs."""
    turns, warp, thread = sch.split(runs, [None, warps, _WARP])
    sch.unroll(turns)
    sch.bind(warp, "threadIdx.y")
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lanes)


def _fragment_loop(sch: Any, target: Any) -> Any:
    """The outer loop of one fragment of a block whose last two loops run over its rows and columns."""
    rows, columns = _last(sch, target, 2)
    rows_far, rows_near = sch.split(rows, [None, FRAGMENT])
    columns_far, columns_near = sch.split(columns, [None, FRAGMENT])
    sch.reorder(rows_far, columns_far, rows_near, columns_near)
    sch.unroll(rows_far)  # an array of fragments stays in registers only under constant indices
    sch.unroll(columns_far)
    return rows_near
