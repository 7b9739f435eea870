"""Tiled matrix products on the CUDA cores: the kernel behind implicit-GEMM convolution, Winograd and dense layers.

    C[z, m, n] = sum_k A[z, m, k] * B[z, k, n]                    z: groups, Winograd positions, slices of k

A block of threads owns a ``bm x bn`` tile of C in registers, ``tm x tn`` a thread, and walks over k in slices:

    for z, tile of m, tile of n:                                  blockIdx
      for slice of k:                                             software pipeline of ``stages`` slices
        As[bm, bk], Bs[bk, bn] = slice of A, of B                 shared memory; together, ``vector`` values a thread
        for k in slice (by 4):
          a[tm, 4], b[4, tn] from shared memory                   16 bytes at a time
          acc[tm, tn] += a * b
      store(z, m, n, acc)                                         epilogue fused

The tile of a thread is cut in runs of four, ``bm / (tm / 4)`` apart, so that the 16-byte reads of a warp touch every
bank once. Operands are given as functions of their index, so nothing is materialised: the im2col matrix of a
convolution exists slice by slice in shared memory only (Chetlur et al., "cuDNN: Efficient Primitives for Deep
Learning", 2014, section 3). Edges: operands return zero outside of the matrix, ``store`` is told not to store there.

With more than one stage, slices are copied by ``cp.async`` while older ones are multiplied (sm_80 and later).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from te_kernels.cuda._base import as_float32
from te_kernels.cuda._builder import block, guarded

#: Values that one instruction reads from shared memory (16 bytes of float32).
RUN = 4
#: Multiply-adds of a thread for one slice that are written out; beyond, only those of four steps of k.
_UNROLLED = 512
#: Threads of a block that sums the splits: few, so that small results spread over the device.
_SUM_THREADS = 128


class Blocking(Protocol):
    """What pads a product."""

    @property
    def bm(self) -> int:
        """Rows of a block."""

    @property
    def bn(self) -> int:
        """Columns of a block."""

    @property
    def bk(self) -> int:
        """Length of a slice."""


@dataclass(frozen=True)
class Tile:
    """Blocking: tile of a block, slice of k, tile of a thread, slices in flight."""

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.bm // self.tm) * (self.bn // self.tn)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return 4 * self.stages * self.bk * (self.bm + self.bn)


@dataclass(frozen=True)
class Product:
    """Sizes of the matrices, before padding to whole tiles; ``a_vector``/``b_vector`` contiguous aligned values.

    ``a_vector`` values follow each other in memory along k, ``b_vector`` along n, ``store_vector`` of C along n,
    wherever a run of them starts at a multiple of it. k is cut into ``splits``, summed by a second kernel: small maps
    have too few tiles for all multiprocessors.
    """

    batch: int
    m: int
    n: int
    k: int
    splits: int = 1
    a_vector: int = 1
    b_vector: int = 1
    store_vector: int = 1

    def padded(self, tile: Blocking) -> tuple[int, int, int]:
        """m, n and k in whole tiles, k in as many for each split."""
        slices = -(-self.k // (tile.bk * self.splits)) * self.splits
        return (-(-self.m // tile.bm) * tile.bm, -(-self.n // tile.bn) * tile.bn, slices * tile.bk)

    def partial_bytes(self, tile: Blocking) -> int:
        """Partial sums in memory, when k is split."""
        m, n, _ = self.padded(tile)
        return 4 * self.batch * self.splits * m * n if self.splits > 1 else 0


@dataclass(frozen=True)
class Operands:
    """The kernel's arguments and what they hold.

    ``declare`` declares the arguments in the current builder. ``a(z, m, k, lane)`` and ``b(z, k, n, lane)`` are the
    elements ``lane`` behind ``k`` and ``n``, the starts of runs of ``a_vector`` and ``b_vector``; zero outside of the
    matrices. ``store(z, m, n, value)`` emits the statements that store one element of C. ``before`` and ``after`` emit
    blocks of their own, kernels before and after the product, which ``schedule`` binds. Elements are of ``dtype``.
    """

    declare: Callable[[], None]
    a: Callable[[Any, Any, Any, Any], Any]
    b: Callable[[Any, Any, Any, Any], Any]
    store: Callable[[Any, Any, Any, Any], None]
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    schedule: Callable[[Any], None] = lambda sch: None
    dtype: str = "float32"


def prim_func(product: Product, tile: Tile, operands: Operands) -> tvm.tirx.PrimFunc:
    """The scheduled kernel."""
    sch = tvm.s_tir.Schedule(_algorithm(product, tile, operands))
    _schedule(sch, product, tile)
    operands.schedule(sch)
    return sch.mod["main"]


def _algorithm(product: Product, tile: Tile, operands: Operands) -> tvm.tirx.PrimFunc:
    """Blocks ``a_tile, b_tile, a_reg, b_reg, acc, out`` over (tile, thread, element of the thread) in place of m and n.

    Those of a thread are not neighbours, so m and n would not tell the scheduler which of them it needs.
    """
    m_size, n_size, k_size = product.padded(tile)
    m_tiles, n_tiles = m_size // tile.bm, n_size // tile.bn
    m_threads, n_threads = tile.bm // tile.tm, tile.bn // tile.tn
    splits = product.splits
    z_size, k_size = product.batch * splits, k_size // splits
    rows = [z_size, m_tiles, m_threads, tile.tm]
    columns = [z_size, n_tiles, n_threads, tile.tn]

    def m_of(tile_m: Any, thread: Any, i: Any) -> Any:
        return tile_m * tile.bm + _far(i, tile.tm, tile.bm) + thread * min(RUN, tile.tm) + _near(i, tile.tm)

    def n_of(tile_n: Any, thread: Any, j: Any) -> Any:
        return tile_n * tile.bn + _far(j, tile.tn, tile.bn) + thread * min(RUN, tile.tn) + _near(j, tile.tn)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        operands.declare()
        operands.before()
        # copied run by run, so that the conditions of a copy are those of its run and not of its lanes
        va, vb = product.a_vector, product.b_vector
        a_tile = T.sblock_alloc_buffer((z_size, m_size, k_size // va, va), "float32", scope="shared.dyn")
        b_tile = T.sblock_alloc_buffer((z_size, k_size, n_size // vb, vb), "float32", scope="shared.dyn")
        a_reg = T.sblock_alloc_buffer((*rows, k_size), "float32", scope="local")
        b_reg = T.sblock_alloc_buffer((*columns[:3], k_size, tile.tn), "float32", scope="local")
        acc = T.sblock_alloc_buffer((*rows, *columns[1:]), "float32", scope="local")
        with block("a_tile", z_size, m_size, k_size // va, va) as (z, m, run, lane):
            value = as_float32(operands.a(z // splits, m, z % splits * k_size + run * va, lane), operands.dtype)
            T.buffer_store(a_tile, value, [z, m, run, lane])
        with block("b_tile", z_size, k_size, n_size // vb, vb) as (z, k, run, lane):
            value = as_float32(operands.b(z // splits, z % splits * k_size + k, run * vb, lane), operands.dtype)
            T.buffer_store(b_tile, value, [z, k, run, lane])
        with block("a_reg", *rows, k_size) as (z, tile_m, thread, i, k):
            T.buffer_store(a_reg, a_tile[z, m_of(tile_m, thread, i), k // va, k % va], [z, tile_m, thread, i, k])
        with block("b_reg", *columns[:3], k_size, tile.tn) as (z, tile_n, thread, k, j):
            n = n_of(tile_n, thread, j)
            T.buffer_store(b_reg, b_tile[z, k, n // vb, n % vb], [z, tile_n, thread, k, j])
        with block("acc", *rows, *columns[1:], reductions=(k_size,)) as (z, tm, ty, i, tn, tx, j, k):
            where = [z, tm, ty, i, tn, tx, j]
            with T.init():
                T.buffer_store(acc, tirx.const(0.0, "float32"), where)
            T.buffer_store(acc, acc[tuple(where)] + a_reg[z, tm, ty, i, k] * b_reg[z, tn, tx, k, j], where)
        partial = T.sblock_alloc_buffer((z_size, m_size, n_size), "float32") if splits > 1 else None
        with block("out", *rows, *columns[1:]) as (z, tm, ty, i, tn, tx, j):
            m, n = m_of(tm, ty, i), n_of(tn, tx, j)
            value = acc[z, tm, ty, i, tn, tx, j]
            if partial is not None:
                T.buffer_store(partial, value, [z, m, n])
            else:
                conditions = [] if m_size == product.m else [m < product.m]
                if n_size != product.n:  # whole runs are inside or outside: the condition stays vectorisable
                    run = product.store_vector
                    conditions.append(tirx.floordiv(n, run) < product.n // run)
                with guarded(conditions):
                    operands.store(z, m, n, value)
        if partial is not None:
            with block("sum", product.batch, product.m, product.n) as (z, m, n):
                total = partial[z * splits, m, n]
                for split in range(1, splits):
                    total = total + partial[z * splits + split, m, n]
                operands.store(z, m, n, total)
        operands.after()
    return builder.get()


def _far(i: Any, size: int, block: int) -> Any:
    """Where the run of element ``i`` of a thread starts, less the thread's own place."""
    return tirx.floordiv(i, RUN) * (block // (size // RUN)) if size > RUN else 0


def _near(i: Any, size: int) -> Any:
    return tirx.floormod(i, RUN) if size > RUN else i


def _schedule(sch: Any, product: Product, tile: Tile) -> None:
    out, acc = sch.get_sblock("out"), sch.get_sblock("acc")
    z, m_tile, m_thread, i, n_tile, n_thread, j = sch.get_loops(out)
    sch.reorder(z, m_tile, n_tile, m_thread, n_thread, i, j)
    sch.bind(z, "blockIdx.y")
    sch.bind(sch.fuse(m_tile, n_tile), "blockIdx.x")  # the one dimension of a grid that has no low limit
    threads = sch.fuse(m_thread, n_thread)
    sch.bind(threads, "threadIdx.x")
    sch.unroll(i)
    far, lanes = sch.split(j, [None, RUN if product.splits > 1 else min(product.store_vector, tile.tn)])
    sch.unroll(far)
    sch.vectorize(lanes)

    sch.compute_at(acc, threads, preserve_unit_loops=True)
    *_, acc_i, acc_n, acc_tx, acc_j, k = sch.get_loops(acc)
    slices, k_outer, k_inner = sch.split(k, [None, tile.bk // RUN, RUN])
    sch.reorder(slices, k_outer, k_inner, acc_i, acc_n, acc_tx, acc_j)
    for name, loop in (("a_reg", k_outer), ("b_reg", k_inner)):
        register = sch.get_sblock(name)
        sch.compute_at(register, loop, preserve_unit_loops=True)
        *rest, run = sch.get_loops(register)
        if name == "b_reg" and tile.tn > RUN:
            far, run = sch.split(run, [None, RUN])
            sch.unroll(far)
        sch.vectorize(run)
        sch.unroll(rest[-1])
    for name in ("a_tile", "b_tile"):
        _copied_together(sch, sch.get_sblock(name), slices, tile.threads)
    short = tile.tm * tile.tn * tile.bk <= _UNROLLED
    for loop in (*([k_outer] if short else []), k_inner, acc_i, acc_j):
        sch.unroll(loop)
    if tile.stages > 1:
        sch.annotate(slices, "software_pipeline_stage", [0, 0, tile.stages - 1])
        sch.annotate(slices, "software_pipeline_order", [0, 1, 2])
        sch.annotate(slices, "software_pipeline_async_stages", [0])
    sch.decompose_reduction(acc, slices)
    if product.splits > 1:
        _spread(sch, sch.get_sblock("sum"), product.store_vector)


def _spread(sch: Any, target: Any, vector: int) -> None:
    """One thread for each run of ``vector`` elements."""
    fused = sch.fuse(*sch.get_loops(target))
    blocks, threads, lanes = sch.split(fused, [None, _SUM_THREADS, vector])
    sch.bind(blocks, "blockIdx.x")
    sch.bind(threads, "threadIdx.x")
    sch.vectorize(lanes)


def _copied_together(sch: Any, copy: Any, loop: Any, threads: int) -> None:
    """All threads copy a slice, a run at a time, neighbouring threads neighbouring runs."""
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    *_, outer, inner, lanes = sch.get_loops(copy)
    turns, thread = sch.split(sch.fuse(outer, inner), [None, threads])
    sch.unroll(turns)
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lanes)
