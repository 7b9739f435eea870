"""Transform matrices of Winograd's minimal filtering, for any size and any points, in exact fractions.

``F(m, r)`` computes ``m`` outputs of a correlation with an ``r``-tap filter from ``m + r - 1`` products:

    y = A^T [(G g) * (B^T d)]

The matrices come from the Cook-Toom algorithm: evaluate two polynomials at ``m + r - 2`` points and at infinity,
multiply, interpolate; the correlation is its transpose (Lavin & Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016; Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for DNNs",
ACM TOMS 2020, for the choice of points). Pairs of opposite sign *without* 0, where their number is even, are several
times as exact as 0 and an unpaired point: F(7,3) then has a third of the error that small integers and halves have.

With a stride ``S`` the filter's taps and the data fall into ``S`` phases by their index modulo ``S``; each phase is a
correlation without a stride, and the outputs are the phases' sums. Side by side the matrices of ``F(m, r_0)``,
``F(m, r_1)`` ... compute that from ``S m + r - S`` products in place of ``m r``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Matrix = tuple[tuple[Fraction, ...], ...]

#: What is paired with its opposite, by the number of finite points; an odd number has 0 as well. Pairs share half of
#: the arithmetic. Of the multiples of an eighth up to 4, exact in float32, those that amplify errors least.
_PAIRS = {
    0: (),
    1: (),
    2: ("1",),
    3: ("1",),
    4: ("3/8", "5/4"),
    5: ("5/8", "3/2"),
    6: ("1/4", "7/8", "7/4"),
    7: ("1/2", "1", "2"),
    8: ("1/4", "3/4", "1", "5/2"),
    9: ("3/8", "7/8", "5/4", "2"),
}


@dataclass(frozen=True)
class Matrices:
    """``at`` is ``(m, size)``, ``g`` is ``(size, r)``, ``bt`` is ``(size, window)``; rows of fractions."""

    m: int
    r: int
    at: Matrix
    g: Matrix
    bt: Matrix

    @property
    def size(self) -> int:
        """Products per ``m`` outputs: ``m + r - 1`` without a stride."""
        return len(self.bt)

    @property
    def window(self) -> int:
        """Inputs of ``m`` outputs: as many as products without a stride."""
        return len(self.bt[0])

    @property
    def amplification(self) -> float:
        """By how much the root mean square of a rounding error grows between a product and the worst output.

        For independent operands of variance 1 an output has variance ``r``, and a product rounded to 1 + d puts
        ``d A[i, a] (G g)[a] (B^T d)[a]`` into output ``i``. Sums over both axes multiply.
        """
        a, g, b = (np.square(np.array(matrix, dtype=np.float64)) for matrix in (self.at, self.g, self.bt))
        return float(np.sqrt((a @ (g.sum(1) * b.sum(1))).max() / self.r))


def transform_weight(rows: Matrices, columns: Matrices, weight: np.ndarray) -> np.ndarray:
    """``(r, s, ...)`` to ``(rows.size * columns.size, ...)`` in float64: ``G g G^T`` as one product of matrices."""
    both = np.kron(np.array(rows.g, dtype=np.float64), np.array(columns.g, dtype=np.float64))
    taps = weight.astype(np.float64, copy=False).reshape(both.shape[1], -1)
    return np.asarray((both @ taps).reshape(len(both), *weight.shape[2:]))


def default_points(count: int) -> tuple[Fraction, ...]:
    """``count`` finite points: 0 if there is an odd one out, and pairs of opposite sign."""
    if count not in _PAIRS:
        raise ValueError(f"{count} interpolation points asked for; more than {max(_PAIRS)} are useless in float32")
    zero = (Fraction(0),) * (count % 2)
    return zero + tuple(sign * Fraction(point) for point in _PAIRS[count] for sign in (1, -1))


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients, lowest first, of the monic polynomial with these roots."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


@functools.cache
def cook_toom(m: int, r: int, points: tuple[Fraction, ...] | None = None) -> Matrices:
    """Matrices of ``F(m, r)`` from ``m + r - 2`` distinct finite points (and infinity)."""
    if m < 1 or r < 1:
        raise ValueError(f"F({m},{r}) needs at least one output and one tap")
    count = m + r - 2
    chosen = default_points(count) if points is None else tuple(Fraction(p) for p in points)
    if len(chosen) != count or len(set(chosen)) != count:
        raise ValueError(f"F({m},{r}) needs {count} distinct finite points, got {[str(p) for p in chosen]}")
    zero, one = Fraction(0), Fraction(1)
    bt, g = [], []
    for j, point in enumerate(chosen):
        others = [p for i, p in enumerate(chosen) if i != j]
        scale = one
        for other in others:
            scale *= point - other
        bt.append((*_polynomial(others), zero))  # the scale of each product is free between B and G
        g.append(tuple(point**k / scale for k in range(r)))
    bt.append(tuple(_polynomial(list(chosen))))
    g.append(tuple(one if k == r - 1 else zero for k in range(r)))
    at = [tuple([p**i for p in chosen] + [one if i == m - 1 else zero]) for i in range(m)]
    return Matrices(m, r, tuple(at), tuple(g), tuple(bt))


@functools.cache
def filtering(m: int, r: int, stride: int) -> Matrices:
    """Matrices of ``m`` outputs, ``stride`` apart, of a filter of ``r`` taps: :func:`cook_toom` for each phase."""
    if stride == 1:
        return cook_toom(m, r)
    window = (m - 1) * stride + r
    at, g, bt = [list[Fraction]() for _ in range(m)], list[tuple[Fraction, ...]](), list[tuple[Fraction, ...]]()
    for phase in range(min(stride, r)):
        own = cook_toom(m, len(range(phase, r, stride))) if phase + stride < r else _identity(m)
        for row, more in zip(at, own.at, strict=True):
            row += more
        g += [_spread(row, phase, stride, r) for row in own.g]
        bt += [_spread(row, phase, stride, window) for row in own.bt]
    return Matrices(m, r, tuple(map(tuple, at)), tuple(g), tuple(bt))


def _identity(m: int) -> Matrices:
    """F(m, 1)."""
    square = tuple(tuple(Fraction(i == j) for j in range(m)) for i in range(m))
    return Matrices(m, 1, square, ((Fraction(1),),) * m, square)


def _spread(row: tuple[Fraction, ...], phase: int, stride: int, length: int) -> tuple[Fraction, ...]:
    """The entries of a phase at their places among those of all phases."""
    places = dict(zip(range(phase, length, stride), row, strict=False))
    return tuple(places.get(i, Fraction(0)) for i in range(length))
