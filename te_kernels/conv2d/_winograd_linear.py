"""A small constant matrix times a vector as a short straight-line program: no zeros, no ones, sums shared.

Interpolation points come in pairs of opposite sign, so that rows (or columns) of the matrices agree up to signs:
``e + o`` and ``e - o``. Such pairs share ``e`` and ``o``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction

from te_kernels.conv2d._linear_program import Program, Terms
from te_kernels.conv2d._winograd_matrices import Matrix


def _signs_differ(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    """Same magnitudes, at least one entry of equal and one of opposite sign, and something to share."""
    if [abs(x) for x in a] != [abs(x) for x in b]:
        return False
    same = sum(x == y != 0 for x, y in zip(a, b, strict=True))
    opposite = sum(x == -y != 0 for x, y in zip(a, b, strict=True))
    return min(same, opposite) >= 1 and same + opposite > 2


@functools.cache
def straight_line(matrix: Matrix) -> Program:
    """Program of ``matrix @ vector``."""
    inputs = len(matrix[0])
    steps: list[Terms] = []

    def append(terms: Sequence[tuple[Fraction, int]]) -> int:
        steps.append(tuple(terms))
        return inputs + len(steps) - 1

    rows = [{j: c for j, c in enumerate(row) if c} for row in matrix]
    columns = [[row[j] for row in matrix] for j in range(inputs)]
    paired: set[int] = set()
    for j in range(inputs):
        partner = next(
            (k for k in range(j + 1, inputs) if k not in paired and _signs_differ(columns[j], columns[k])), None
        )
        if j in paired or partner is None:
            continue
        paired |= {j, partner}
        total = append([(Fraction(1), j), (Fraction(1), partner)])
        difference = append([(Fraction(1), j), (Fraction(-1), partner)])
        for row in rows:
            if j in row:
                a, b = row.pop(j), row.pop(partner)
                row[total if a == b else difference] = a

    outputs: dict[int, int] = {}
    for i, row in enumerate(rows):
        if i in outputs:
            continue
        keys = sorted(row)
        mine = [row[k] for k in keys]
        for j in range(i + 1, len(rows)):
            if j in outputs or sorted(rows[j]) != keys or not _signs_differ(mine, [rows[j][k] for k in keys]):
                continue
            even = _share([(row[k], k) for k in keys if row[k] == rows[j][k]], append)
            odd = _share([(row[k], k) for k in keys if row[k] != rows[j][k]], append)
            outputs[i] = append([even, odd])
            outputs[j] = append([even, (-odd[0], odd[1])])
            break
        else:
            terms = [(row[k], k) for k in keys]
            outputs[i] = terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else append(terms)
    return Program(inputs, tuple(steps), tuple(outputs[i] for i in range(len(rows))))


def _share(
    terms: list[tuple[Fraction, int]], append: Callable[[list[tuple[Fraction, int]]], int]
) -> tuple[Fraction, int]:
    """(coefficient, value) of a partial sum used twice; its last coefficient becomes 1, which saves a multiplication.

    The rows of ``B^T`` are monic polynomials of ``(x - p)(x^2 - q^2)...``: both halves end up as ``(x^2 - q^2)...``.
    """
    if len(terms) == 1:
        return terms[0]
    common = abs(terms[-1][0])
    return common, append([(c / common, k) for c, k in terms])
