"""Strassen's product of matrices as a transform of tiles: 2^l positions by 2^l vectors of channels, 7^l products.

    Y = A [ (G w) * (B x) ]      x: positions by input channels, w: input by output channels, Y: positions by outputs

Winograd's form: 4 sums of the input, 4 of the weights, 7 of the products for each level (Strassen, "Gaussian
elimination is not optimal", Numerische Mathematik 13, 1969; Knuth, "The Art of Computer Programming" vol. 2, 4.6.4,
exercise 13, for Winograd's). The 7 products of a level are over half of the positions, of the input channels and of the
output channels, 7/8 of the multiply-adds. The sums of the weights are taken at compile time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from tvm.tirx.script import builder as T

from te_kernels.conv2d._linear_program import Program
from te_kernels.conv2d._map_tiles import Read, Write
from te_kernels.conv2d._tile_transform import Registers, TileTransform, vector_sum

Value = TypeVar("Value")
#: Takes ``[(coefficient, value), ...]`` to their weighted sum.
Combine = Callable[[list[tuple[Any, Value]]], Value]


def _program(inputs: int, steps: list[tuple[int, int]], outputs: tuple[int, ...]) -> Program:
    """Sums of two values each; a subtrahend is written as its complement ``~i``."""
    terms = tuple(tuple((Fraction(1), i) if i >= 0 else (Fraction(-1), ~i) for i in step) for step in steps)
    return Program(inputs, terms, outputs)


# Halves are numbered row by row: 11, 12, 21, 22.
_DATA = _program(4, [(2, 3), (4, ~0), (0, ~2), (1, ~5)], (0, 1, 7, 3, 4, 5, 6))
_WEIGHT = _program(4, [(1, ~0), (3, ~4), (3, ~1), (5, ~2)], (0, 2, 3, 7, 4, 5, 6))
_RESULT = _program(7, [(0, 1), (0, 5), (8, 6), (8, 4), (10, 2), (9, ~3), (9, 4)], (7, 11, 12, 13))


@dataclass(frozen=True)
class StrassenTransform(TileTransform):
    """``levels`` times Strassen."""

    streamed_bytes = 16.0  # neighbouring positions and channels: more than a few lines

    levels: int

    @property
    def parts(self) -> int:
        """Into how many parts positions, input channels and output channels are cut."""
        return 1 << self.levels

    @property
    def outputs(self) -> tuple[int, int]:
        """Positions and vectors of output channels a tile."""
        return self.parts, self.parts

    @property
    def window(self) -> tuple[int, int]:
        """Positions and vectors of input channels a tile."""
        return self.parts, self.parts

    @property
    def positions(self) -> int:
        return 7**self.levels

    def cycles(self, registers: int) -> tuple[float, float]:
        spilled = max(0, self.parts**2 - registers // 2)
        return self._sums(_DATA) / 2 + spilled, self._sums(_RESULT) / 2 + spilled

    def _sums(self, program: Program) -> int:
        """Additions of ``program`` on all levels: quarters of matrices are added 4^i at a time, for 7^j of them."""
        return program.operations * sum(4**i * 7 ** (self.levels - 1 - i) for i in range(self.levels))

    def transform_weight(self, weight: np.ndarray) -> np.ndarray:
        """Of ``(parts, parts, ...)``, parts of input by parts of output channels: ``(positions, ...)``."""
        halves: list[np.ndarray] = [weight[place] for place in self._places]
        factors: list[np.ndarray] = _products(_WEIGHT, halves, _array_sum)
        return np.stack(factors)

    def emit_input(self, lanes: int, tile: Any, write: Write) -> None:
        """``tile.read(position, vector, lane)`` is an element of the input."""
        registers = Registers(self.parts**2 + self._sums(_DATA), lanes)
        with T.vectorized(0, lanes) as lane:
            values = [registers.keep(tile.read(*place, lane), lane) for place in self._places]
            sums = _products(_DATA, values, lambda terms: registers.keep(vector_sum(terms), lane))
            for position, value in enumerate(sums):
                write(position, lane, value)

    def emit_output(self, lanes: int, read: Read, tile: Any) -> None:
        """``tile.store(position, vector, lane, value)`` takes an element of the result."""
        registers = Registers(self.positions + self._sums(_RESULT), lanes)
        with T.vectorized(0, lanes) as lane:
            values = [registers.keep(read(position, lane), lane) for position in range(self.positions)]
            results = _results(values, lambda terms: registers.keep(vector_sum(terms), lane))
            for place, value in zip(self._places, results, strict=True):
                tile.store(*place, lane, value)

    @property
    def _places(self) -> list[tuple[int, int]]:
        return [(row, column) for row in range(self.parts) for column in range(self.parts)]


def _array_sum(terms: list[tuple[Any, np.ndarray]]) -> np.ndarray:
    total = np.zeros_like(terms[0][1])
    for coefficient, value in terms:
        total += float(coefficient) * value
    return total


def _products(program: Program, matrix: list[Value], combine: Combine[Value]) -> list[Value]:
    """The factors of all products, of a square matrix row by row."""
    if len(matrix) == 1:
        return matrix
    quarters = _quarters(matrix)
    sums = [program.run([quarter[i] for quarter in quarters], combine) for i in range(len(quarters[0]))]
    return [value for factor in zip(*sums, strict=True) for value in _products(program, list(factor), combine)]


def _results(products: list[Value], combine: Combine[Value]) -> list[Value]:
    """The square matrix row by row, of all products."""
    if len(products) == 1:
        return products
    share = len(products) // 7
    parts = [_results(products[first : first + share], combine) for first in range(0, len(products), share)]
    places = _quarters(list(range(4 * len(parts[0]))))
    result: dict[int, Value] = {}
    for i in range(len(parts[0])):
        for quarter, value in zip(places, _RESULT.run([part[i] for part in parts], combine), strict=True):
            result[quarter[i]] = value
    return [result[place] for place in range(len(result))]


def _quarters(matrix: list[Value]) -> list[list[Value]]:
    """The four quarters of a square matrix, all row by row."""
    side = math.isqrt(len(matrix))
    half = side // 2
    return [
        [matrix[row * side + column] for row in range(top, top + half) for column in range(left, left + half)]
        for top in (0, half)
        for left in (0, half)
    ]
