"""Winograd convolution F(m x m, r x s), stride 1, as three kernels: transform, batched product, inverse transform.

    V[a, t, c] = (B^T d B)[a]                 a thread for each tile t and channel c, all m+r-1 squared positions a
    M[a, t, k] = sum_c V[a, t, c] U[a, c, k]  one tiled product for each position
    Y = A^T M A, epilogue                     a thread for each tile and channel k

V and M live in memory (L2 at small sizes): they cost 2 ((m+r-1)/m)^2 passes over the maps, and the products save
``(m r / (m+r-1))^2`` of the multiply-adds. Matrices and straight-line programs are those of the CPU kernels (Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).

NCHW stores V and M with the tiles innermost, as neighbouring threads take neighbouring tiles there; NHWC with the
channels innermost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.conv2d._linear_program import Program, weighted_sum
from te_kernels.conv2d._winograd_linear import straight_line
from te_kernels.conv2d._winograd_matrices import Matrices, cook_toom, transform_weight
from te_kernels.cuda import _gemm
from te_kernels.cuda._base import LAUNCH_S, Arguments, ceil_div, packed_constants, streaming_s
from te_kernels.cuda._builder import block, guarded
from te_kernels.cuda._occupancy import seconds
from te_kernels.gpu import Gpu
from te_kernels.task import ConvTask
from te_kernels.variant import Layouts

_THREADS = 128


@dataclass(frozen=True)
class Winograd:
    """One convolution under a tile size ``m`` and a blocking of its products."""

    task: ConvTask
    layouts: Layouts
    m: int
    tile: _gemm.Tile

    @property
    def rows(self) -> Matrices:
        """Vertical transform."""
        return cook_toom(self.m, self.task.r)

    @property
    def columns(self) -> Matrices:
        """Horizontal transform."""
        return cook_toom(self.m, self.task.s)

    @property
    def positions(self) -> int:
        """Positions of a transformed tile."""
        return self.rows.size * self.columns.size

    @property
    def tiles_down(self) -> int:
        """Tiles along a column of the output."""
        return ceil_div(self.task.oh, self.m)

    @property
    def tiles_across(self) -> int:
        """Tiles along a row of the output."""
        return ceil_div(self.task.ow, self.m)

    @property
    def tiles(self) -> int:
        """Tiles of the batch."""
        return self.task.n * self.tiles_down * self.tiles_across

    @property
    def channels_are_rows(self) -> bool:
        """Whether m counts output channels."""
        return self.layouts.output == "NCHW"

    @property
    def product(self) -> _gemm.Product:
        """The batched product, in whole tiles: padding is zero in k and never read elsewhere."""
        t = self.task
        m, n = (t.k, self.tiles) if self.channels_are_rows else (self.tiles, t.k)
        run = _gemm.RUN
        needed = _gemm.Product(self.positions, m, n, t.c)
        return _gemm.Product(self.positions, *needed.padded(self.tile), 1, run, run, run)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Transformed weights, the matrix of each position."""
        p = self.product
        return (self.positions, p.m, p.k) if self.channels_are_rows else (self.positions, p.k, p.n)

    @property
    def transformed_shape(self) -> tuple[int, ...]:
        """Shape of V."""
        p = self.product
        return (self.positions, p.k, p.n) if self.channels_are_rows else (self.positions, p.m, p.k)

    def workspace_bytes(self) -> int:
        """V and M."""
        p = self.product
        return 4 * self.positions * (p.m * p.n + p.k * (p.n if self.channels_are_rows else p.m))

    def pack(self, params: list[np.ndarray]) -> list[np.ndarray]:
        """``G g G^T`` in float64, then float32 matrices, zero in the padding."""
        order = (2, 3, 0, 1) if self.channels_are_rows else (2, 3, 1, 0)
        matrices = transform_weight(self.rows, self.columns, params[0].transpose(order))
        packed = np.zeros(self.weight_shape, np.float32)
        packed[:, : matrices.shape[1], : matrices.shape[2]] = matrices
        return [packed, *packed_constants(self.layouts.output, params[1:])]

    def prim_func(self) -> tvm.tirx.PrimFunc:
        """The scheduled kernels."""
        kernels = _Kernels(self)
        return _gemm.prim_func(self.product, self.tile, kernels.operands())

    def model_s(self, machine: Gpu) -> float:
        """Two streaming kernels around the product."""
        t, p = self.task, self.product
        v_bytes = 4 * self.positions * p.k * (p.n if self.channels_are_rows else p.m)
        m_bytes = 4 * self.positions * p.m * p.n
        forward = streaming_s(4 * t.n * t.c * t.h * t.w + v_bytes, machine)
        inverse = streaming_s(4 * t.n * t.k * t.oh * t.ow + m_bytes, machine)
        return forward + seconds(p, self.tile, machine) + inverse + LAUNCH_S / 2


class _Kernels:
    """Emits the two transforms around the product."""

    def __init__(self, conv: Winograd) -> None:
        self.conv, self.task = conv, conv.task

    def operands(self) -> _gemm.Operands:
        """Matrices of the product: transformed weights, V, and M to store to."""

        def weight(z: Any, i: Any, j: Any, lane: Any) -> Any:
            return self.args.params[0][z, i, j + lane]

        def transformed(z: Any, i: Any, j: Any, lane: Any) -> Any:
            return self.v[z, i, j + lane]

        def store(z: Any, m: Any, n: Any, value: Any) -> None:
            T.buffer_store(self.products, value, [z, m, n])

        a, b = (weight, transformed) if self.conv.channels_are_rows else (transformed, weight)
        return _gemm.Operands(self._declare, a, b, store, self._forward, self._inverse, self._schedule)

    def _declare(self) -> None:
        conv, p = self.conv, self.conv.product
        self.args = Arguments(self.task, conv.layouts, "float32", [(conv.weight_shape, "float32")])
        self.v = T.sblock_alloc_buffer(conv.transformed_shape, "float32")
        self.products = T.sblock_alloc_buffer((conv.positions, p.m, p.n), "float32")

    def _place(self, tile: Any) -> tuple[Any, Any, Any]:
        """(image, first output row, first output column) of a tile."""
        c = self.conv
        per_image = c.tiles_down * c.tiles_across
        return tile // per_image, tile % per_image // c.tiles_across * c.m, tile % c.tiles_across * c.m

    def _forward(self) -> None:
        conv, t = self.conv, self.task
        k_size = conv.product.k
        extents = conv.transformed_shape[1:]
        tiles = extents[1] if conv.channels_are_rows else extents[0]
        with block("forward", *extents) as axes:
            c, tile = axes if conv.channels_are_rows else reversed(axes)
            image, top, left = self._place(tile)
            top, left = top - t.pad[0], left - t.pad[1]

            def read(i: int, j: int) -> Any:
                y, x = top + i, left + j
                inside = [y >= 0, y < t.h, x >= 0, x < t.w]
                inside += [c < t.c] if k_size != t.c else []
                inside += [tile < conv.tiles] if tiles != conv.tiles else []
                value = self.args.read(0, image, c, y, x)
                return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0.0, "float32"))

            def write(i: int, j: int, value: Any) -> None:
                T.buffer_store(self.v, value, [i * conv.columns.size + j, *axes])

            _transform(straight_line(conv.rows.bt), straight_line(conv.columns.bt), read, write)

    def _inverse(self) -> None:
        conv, t = self.conv, self.task
        extents = (t.k, conv.tiles) if conv.channels_are_rows else (conv.tiles, t.k)
        with block("inverse", *extents) as axes:
            k, tile = axes if conv.channels_are_rows else reversed(axes)
            image, top, left = self._place(tile)

            def read(i: int, j: int) -> Any:
                return self.products[(i * conv.columns.size + j, *axes)]

            def write(i: int, j: int, value: Any) -> None:
                y, x = top + i, left + j
                with guarded([*([y < t.oh] if t.oh % conv.m else []), *([x < t.ow] if t.ow % conv.m else [])]):
                    self.args.store(value, image, k, y, x)

            _transform(straight_line(conv.rows.at), straight_line(conv.columns.at), read, write)

    @staticmethod
    def _schedule(sch: Any) -> None:
        for name in ("forward", "inverse"):
            fused = sch.fuse(*sch.get_loops(sch.get_sblock(name)))
            blocks, threads = sch.split(fused, [None, _THREADS])
            sch.bind(blocks, "blockIdx.x")
            sch.bind(threads, "threadIdx.x")


def _transform(rows: Program, columns: Program, read: Any, write: Any) -> None:
    """``R patch C^T``, every intermediate value bound to a name."""

    def combine(terms: list[tuple[Any, Any]]) -> Any:
        return T.Bind(weighted_sum(terms, lambda value: tirx.const(value, "float32")))

    patch = [[T.Bind(read(i, j)) for j in range(columns.inputs)] for i in range(rows.inputs)]
    done = [rows.run([patch[i][j] for i in range(rows.inputs)], combine) for j in range(columns.inputs)]
    for i in range(len(rows.outputs)):
        for j, value in enumerate(columns.run([column[i] for column in done], combine)):
            write(i, j, value)
