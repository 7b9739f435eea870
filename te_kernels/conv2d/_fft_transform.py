"""The discrete Fourier transform of tiles (overlap-save), in real arithmetic.

    Y = crop( iDFT[ DFT(d) * conj(DFT(g)) ] )            d: n x n input tile, Y: m x m output tile, n = m + r - 1

A product of complex numbers is three products of real ones (Gauss's):

    (a + ib)(c + id) = (k1 - k3) + i(k1 + k2)            k1 = c(a + b),  k2 = a(d - c),  k3 = b(c + d)

so that a complex frequency takes three positions of the transformed space and its products over channels are the same
real matrix products as Winograd's: 1.5 n^2 - 2 positions for even n (half of the spectrum of a real tile is redundant,
four of its numbers are real). A tile is transformed row by row in registers, then column by column; between the two
lies a copy on the stack. Rows of reals keep their n numbers, of which the first one or two are real frequencies.
The inverse is the transposed map; its factors, 1/n^2 and 2 for every frequency that stands for its conjugate too, are
in the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels.conv2d._buffers import vector_registers
from te_kernels.conv2d._fft_program import complex_dft, real_dft, transposed
from te_kernels.conv2d._map_tiles import InputTile, OutputTile, Read, Write, guarded
from te_kernels.conv2d._tile_transform import TileTransform, emit_program


def _real_frequencies(n: int) -> int:
    """Of a real transform of size ``n``: 0 and, for even ``n > 1``, n/2."""
    return 2 - n % 2


@dataclass(frozen=True)
class FftTransform(TileTransform):
    """``m`` outputs along each axis on which the ``r x s`` kernel has more than one element."""

    m: int
    r: int
    s: int

    @property
    def outputs(self) -> tuple[int, int]:
        return (self.m if self.r > 1 else 1), (self.m if self.s > 1 else 1)

    @property
    def window(self) -> tuple[int, int]:
        return self.outputs[0] + self.r - 1, self.outputs[1] + self.s - 1

    @property
    def _real_columns(self) -> int:
        return _real_frequencies(self.window[1])

    @property
    def _complex_columns(self) -> int:
        return (self.window[1] - self._real_columns) // 2

    @property
    def _column_positions(self) -> int:
        """Positions of a column of real numbers: real frequencies, then three for each complex one."""
        height = self.window[0]
        real = _real_frequencies(height)
        return real + 3 * ((height - real) // 2)

    @property
    def positions(self) -> int:
        return self._real_columns * self._column_positions + 3 * self._complex_columns * self.window[0]

    def cycles(self, registers: int) -> tuple[float, float]:
        (height, width), (rows, columns) = self.window, self.outputs
        real, pair, row = real_dft(height), complex_dft(height), real_dft(width)
        forth = height * row.operations + self.positions / 3
        forth += self._real_columns * real.operations + self._complex_columns * pair.operations
        back = rows * transposed(row, columns).operations + self.positions * 2 / 3
        back += self._real_columns * transposed(real, rows).operations
        back += self._complex_columns * transposed(pair, 2 * rows).operations
        return forth / 2 + height * width, back / 2 + rows * width  # what lies between is stored once

    def transform_weight(self, weight: np.ndarray) -> np.ndarray:
        height, width = self.window
        spectrum = np.conj(np.fft.rfft2(weight, (height, width), (0, 1))) / (height * width)
        parts: list[np.ndarray] = []

        def three(values: np.ndarray) -> None:
            """Complex frequencies, each for its conjugate too."""
            c, d = 2 * values.real, 2 * values.imag
            parts.append(np.stack([c, d - c, c + d], 1).reshape(-1, *values.shape[1:]))

        for column in (0, width // 2)[: self._real_columns]:
            frequencies = spectrum[:, column]
            real = [0, height // 2][: _real_frequencies(height)]
            parts.append(frequencies[real].real)
            three(frequencies[1 : (height + 1) // 2])
        for column in range(1, self._complex_columns + 1):
            three(spectrum[:, column])
        return np.concatenate(parts)

    def emit_input(self, lanes: int, tile: InputTile, write: Write) -> None:
        height, width = self.window
        between = vector_registers(height * width, lanes)

        def row(y: Any, read: Callable[[int, Any], Any]) -> None:
            def keep(x: int, lane: Any, value: Any) -> None:
                T.buffer_store(between, value, [(y * width + x) * lanes + lane])

            emit_program(real_dft(width), lanes, read, keep)

        def inside() -> None:
            with T.serial(0, height) as y:
                row(y, lambda x, lane: tile.read(y, x, lane))

        def at_edge() -> None:
            with T.serial(0, height) as y:
                line = tile.patch(y, 1)
                row(y, lambda x, lane: line(0, x, lane))

        guarded(tile.inside, inside, at_edge)

        def three(first: Any, lane: Any, a: Any, b: Any) -> None:
            write(first, lane, a + b)
            write(first + 1, lane, a)
            write(first + 2, lane, b)

        with T.serial(0, self._real_columns) as column:
            real = _real_frequencies(height)
            results: list[Any] = []

            def frequency(i: int, lane: Any, value: Any) -> None:
                results.append(value)
                if i < real:
                    write(column * self._column_positions + i, lane, value)
                elif (i - real) % 2:
                    three(column * self._column_positions + real + (i - real) // 2 * 3, lane, results[-2], value)

            emit_program(
                real_dft(height), lanes, lambda y, lane: between[(y * width + column) * lanes + lane], frequency
            )
        if not self._complex_columns:
            return
        with T.serial(0, self._complex_columns) as column:
            pairs: list[Any] = []

            def pair(i: int, lane: Any, value: Any) -> None:
                pairs.append(value)
                if i % 2:
                    first = self._real_columns * self._column_positions + (column * height + i // 2) * 3
                    three(first, lane, pairs[-2], value)

            def part(i: int, lane: Any) -> Any:
                return between[(i // 2 * width + self._real_columns + column * 2 + i % 2) * lanes + lane]

            emit_program(complex_dft(height), lanes, part, pair)

    def emit_output(self, lanes: int, read: Read, tile: OutputTile) -> None:
        (height, width), (rows, columns) = self.window, self.outputs
        between = vector_registers(rows * width, lanes)

        def complex_part(first: Any, imaginary: bool, lane: Any) -> Any:
            k1 = read(first, lane)
            return k1 + read(first + 1, lane) if imaginary else k1 - read(first + 2, lane)

        with T.serial(0, self._real_columns) as column:
            real = _real_frequencies(height)

            def frequency(i: int, lane: Any) -> Any:
                first = column * self._column_positions
                if i < real:
                    return read(first + i, lane)
                return complex_part(first + real + (i - real) // 2 * 3, (i - real) % 2 == 1, lane)

            def keep(y: int, lane: Any, value: Any) -> None:
                T.buffer_store(between, value, [(y * width + column) * lanes + lane])

            emit_program(transposed(real_dft(height), rows), lanes, frequency, keep)
        if self._complex_columns:
            with T.serial(0, self._complex_columns) as column:

                def part(i: int, lane: Any) -> Any:
                    first = self._real_columns * self._column_positions + (column * height + i // 2) * 3
                    return complex_part(first, i % 2 == 1, lane)

                def keep_pair(i: int, lane: Any, value: Any) -> None:
                    x = self._real_columns + column * 2 + i % 2
                    T.buffer_store(between, value, [(i // 2 * width + x) * lanes + lane])

                emit_program(transposed(complex_dft(height), 2 * rows), lanes, part, keep_pair)

        def row(y: Any, write: Callable[[int, Any, Any], None]) -> None:
            source = lambda x, lane: between[(y * width + x) * lanes + lane]  # noqa: E731
            emit_program(transposed(real_dft(width), columns), lanes, source, write)

        def inside() -> None:
            with T.serial(0, rows) as y:
                row(y, lambda x, lane, value: tile.store(y, x, lane, value))

        def at_edge() -> None:
            with T.serial(0, tile.rows) as y:
                tile.patch(y, 1, lambda keep: row(y, lambda x, lane, value: keep(0, x, lane, value)))

        guarded(tile.inside, inside, at_edge)
