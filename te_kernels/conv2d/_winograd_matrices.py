"""Transform matrices of Winograd's minimal filtering, for any size and any points, in exact fractions.

``F(m, r)`` computes ``m`` outputs of a correlation with an ``r``-tap filter from ``m + r - 1`` products:

    y = A^T [(G g) * (B^T d)]

The matrices come from the Cook-Toom algorithm: evaluate two polynomials at ``m + r - 2`` points and at infinity,
multiply, interpolate; the correlation is its transpose (Lavin & Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016; Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for DNNs",
ACM TOMS 2020, for the choice of points).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Matrix = tuple[tuple[Fraction, ...], ...]

#: Small dyadic points: exact in float32, and in pairs of opposite sign, which share half of the arithmetic.
_POINTS = tuple(
    Fraction(*p)
    for p in ((0, 1), (1, 1), (-1, 1), (2, 1), (-2, 1), (1, 2), (-1, 2), (4, 1), (-4, 1), (1, 4), (-1, 4), (3, 4))
)


@dataclass(frozen=True)
class Matrices:
    """``at`` is ``(m, m+r-1)``, ``g`` is ``(m+r-1, r)``, ``bt`` is ``(m+r-1, m+r-1)``; rows of fractions."""

    m: int
    r: int
    at: Matrix
    g: Matrix
    bt: Matrix

    @property
    def size(self) -> int:
        """Products per ``m`` outputs: ``m + r - 1``."""
        return self.m + self.r - 1

    @property
    def amplification(self) -> float:
        """By how much the root mean square of a rounding error grows between a product and the worst output.

        For independent operands of variance 1 an output has variance ``r``, and a product rounded to 1 + d puts
        ``d A[i, a] (G g)[a] (B^T d)[a]`` into output ``i``. Sums over both axes multiply.
        """
        a, g, b = (np.square(np.array(matrix, dtype=np.float64)) for matrix in (self.at, self.g, self.bt))
        return float(np.sqrt((a @ (g.sum(1) * b.sum(1))).max() / self.r))


def transform_weight(rows: Matrices, columns: Matrices, weight: np.ndarray) -> np.ndarray:
    """``(..., r, s)`` to ``(..., rows.size, columns.size)`` in float64: ``G g G^T``."""
    left, right = np.array(rows.g, dtype=np.float64), np.array(columns.g, dtype=np.float64)
    return np.asarray(np.einsum("ai,...ij,bj->...ab", left, weight.astype(np.float64), right, optimize=True))


def default_points(count: int) -> tuple[Fraction, ...]:
    """The first ``count`` finite points: 0, 1, -1, 2, -2, 1/2, -1/2, ..."""
    if count > len(_POINTS):
        raise ValueError(f"{count} interpolation points asked for; more than {len(_POINTS)} are useless in float32")
    return _POINTS[:count]


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
        row = [*_polynomial(others), zero]
        # the scale of each product is free between B and G: clear denominators in B, which works in float32
        clear = one * max((c.denominator for c in row), default=1)
        bt.append(tuple(c * clear for c in row))
        g.append(tuple(point**k / scale / clear for k in range(r)))
    bt.append(tuple(_polynomial(list(chosen))))
    g.append(tuple(one if k == r - 1 else zero for k in range(r)))
    at = [tuple([p**i for p in chosen] + [one if i == m - 1 else zero]) for i in range(m)]
    return Matrices(m, r, tuple(at), tuple(g), tuple(bt))
