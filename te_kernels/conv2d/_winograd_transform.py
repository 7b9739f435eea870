"""The transforms of Winograd's minimal filtering F(m x n, r x s), as straight-line code over constant matrices.

    Y = A^T [ (G g G^T) * (B^T d B) ] A                  d: (m+r-1) x (n+s-1) input tile, Y: m x n output tile

(a larger input tile with a stride), with matrices of F(m, r) on the left and of F(n, s) on the right. A small tile is
transformed in registers, every intermediate value in its own; a larger one row by row and column by column, between
which it lies on the stack, as most of it would anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d._linear_program import Program
from te_kernels.conv2d._map_tiles import InputTile, OutputTile, Read, Write, guarded
from te_kernels.conv2d._tile_transform import Registers, TileTransform, emit_program, vector_sum
from te_kernels.conv2d._winograd_linear import straight_line
from te_kernels.conv2d._winograd_matrices import Matrices, filtering, transform_weight

#: Positions up to which a tile is transformed in one piece of code. Larger ones would take as long to run that way
#: (within one per cent on average) and three times as long to build.
_MOST_AT_ONCE = 36


@dataclass(frozen=True)
class WinogradTransform(TileTransform):
    """F(m x n, r x s); ``m`` is 1 for kernels of one row, ``n`` for kernels of one column."""

    m: int
    n: int
    r: int
    s: int
    stride: tuple[int, int] = (1, 1)

    @property
    def rows(self) -> Matrices:
        """F(m, r) along the height; the identity for a kernel of one row."""
        return filtering(self.m, self.r, self.stride[0])

    @property
    def columns(self) -> Matrices:
        """F(n, s) along the width; the identity for a kernel of one column."""
        return filtering(self.n, self.s, self.stride[1])

    @property
    def outputs(self) -> tuple[int, int]:
        return self.m, self.n

    @property
    def window(self) -> tuple[int, int]:
        return self.rows.window, self.columns.window

    @property
    def positions(self) -> int:
        return self.rows.size * self.columns.size

    def cycles(self, registers: int) -> tuple[float, float]:
        rows, columns = self.rows, self.columns
        spilled = max(0, self.positions - registers // 2)  # patches larger than the registers are stored twice
        left, right = straight_line(rows.bt).operations, straight_line(columns.bt).operations
        per_input = (left * columns.size + right * rows.window) / 2
        left, right = straight_line(rows.at).operations, straight_line(columns.at).operations
        per_output = (left * columns.size + right * rows.m) / 2
        return per_input + spilled, per_output + spilled

    def transform_weight(self, weight: np.ndarray) -> np.ndarray:
        return transform_weight(self.rows, self.columns, weight)

    @property
    def _at_once(self) -> bool:
        return self.positions <= _MOST_AT_ONCE

    def emit_input(self, lanes: int, tile: InputTile, write: Write) -> None:
        rows, columns = straight_line(self.rows.bt), straight_line(self.columns.bt)
        height, width = self.rows.window, self.columns.size

        def store(y: int, x: Any, lane: Any, value: Any) -> None:
            write(y * width + x, lane, value)

        if self._at_once:
            guarded(
                tile.inside,
                lambda: _both_ways(rows, columns, lanes, tile.read, store),
                lambda: _both_ways(rows, columns, lanes, tile.patch(0, height), store),
            )
            return
        between = vector_registers(height * width, lanes)

        def row(y: Any, read: Read) -> None:
            def keep(x: int, lane: Any, value: Any) -> None:
                T.buffer_store(between, value, [(y * width + x) * lanes + lane])

            emit_program(columns, lanes, read, keep)

        def inside() -> None:
            with T.serial(0, height) as y:
                row(y, lambda x, lane: tile.read(y, x, lane))

        def at_edge() -> None:
            patch = tile.patch(0, height)
            with T.serial(0, height) as y:
                row(y, lambda x, lane: patch(y, x, lane))

        guarded(tile.inside, inside, at_edge)
        with T.serial(0, width) as x:
            emit_program(
                rows, lanes, lambda y, lane: between[(y * width + x) * lanes + lane],
                lambda y, lane, value: store(y, x, lane, value),
            )  # fmt: skip

    def emit_output(self, lanes: int, read: Read, tile: OutputTile) -> None:
        rows, columns, width = straight_line(self.rows.at), straight_line(self.columns.at), self.columns.size

        def transform(write: Write) -> None:
            _both_ways(rows, columns, lanes, lambda y, x, lane: read(y * width + x, lane), write)

        if self._at_once:
            guarded(tile.inside, lambda: transform(tile.store), lambda: tile.patch(0, self.outputs[0], transform))
            return
        between = vector_registers(self.m * width, lanes)

        def keep(y: int, x: Any, lane: Any, value: Any) -> None:
            T.buffer_store(between, value, [(y * width + x) * lanes + lane])

        with T.serial(0, width) as x:
            emit_program(
                rows, lanes, lambda y, lane: read(y * width + x, lane), lambda y, lane, value: keep(y, x, lane, value)
            )

        def row(y: Any, write: Write) -> None:
            emit_program(columns, lanes, lambda x, lane: between[(y * width + x) * lanes + lane], write)

        def inside() -> None:
            with T.serial(0, self.m) as y:
                row(y, lambda x, lane, value: tile.store(y, x, lane, value))

        def at_edge() -> None:
            with T.serial(0, tile.rows) as y:
                tile.patch(y, 1, lambda keep: row(y, lambda x, lane, value: keep(0, x, lane, value)))

        guarded(tile.inside, inside, at_edge)


def _both_ways(rows: Program, columns: Program, lanes: int, read: Read, write: Write) -> None:
    """``R patch C^T`` for the matrices of two programs."""
    count = rows.inputs * columns.inputs + len(rows.steps) * columns.inputs
    registers = Registers(count + len(columns.steps) * len(rows.outputs), lanes)
    with T.vectorized(0, lanes) as lane:

        def combine(terms: list[tuple[Any, Any]]) -> Any:
            return registers.keep(vector_sum(terms), lane)

        done = [
            rows.run([registers.keep(read(y, x, lane), lane) for y in range(rows.inputs)], combine)
            for x in range(columns.inputs)
        ]
        for y in range(len(rows.outputs)):
            for x, value in enumerate(columns.run([column[y] for column in done], combine)):
                write(y, x, lane, value)
