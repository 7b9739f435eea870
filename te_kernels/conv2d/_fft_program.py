"""Small discrete Fourier transforms as straight-line programs of real additions and multiplications.

Decimation in time for any size, split at its smallest prime factor (Cooley and Tukey 1965):

    X[k] = sum_j w_n^(jk) E_j[k mod n/p],    E_j the transform of x[j], x[j + p], x[j + 2p], ...

A real input is transformed with real arithmetic: half of its spectrum, ``X[n-k] = conj(X[k])``, is all there is. The
inverse transforms are not written down: up to factors they are the transposed linear maps, and a program is transposed
by reversing its steps (Bordewijk 1956), which keeps the number of operations within the number of values.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

from te_kernels.conv2d._linear_program import Program, Terms

#: A complex value: its real and imaginary parts as weighted sums of values, no terms for zero.
Complex = tuple[Terms, Terms]
_ZERO: Terms = ()


@dataclass
class _Builder:
    """Collects the steps of a program with ``inputs`` inputs."""

    inputs: int
    steps: list[Terms] = field(default_factory=list)

    def value(self, terms: Terms) -> Terms:
        """The weighted sum as a value of its own; sums of one unscaled value and of nothing stay what they are."""
        merged: dict[int, float] = {}
        for coefficient, index in terms:
            merged[index] = merged.get(index, 0.0) + float(coefficient)
        kept = tuple((c, i) for i, c in merged.items() if c != 0.0)
        if len(kept) <= 1 and all(abs(c) == 1.0 for c, _ in kept):
            return kept
        self.steps.append(kept)
        return ((1.0, self.inputs + len(self.steps) - 1),)

    def sum(self, values: list[Complex]) -> Complex:
        """Of complex values."""
        re, im = (tuple(term for value in values for term in value[part]) for part in (0, 1))
        return self.value(re), self.value(im)

    def output(self, terms: Terms) -> int:
        """The number of a value; one that is nothing but an input with a sign, or zero, becomes a step."""
        if len(terms) == 1 and terms[0][0] == 1.0:
            return terms[0][1]
        self.steps.append(terms)
        return self.inputs + len(self.steps) - 1


def _scaled(terms: Terms, factor: float) -> Terms:
    return tuple((float(c) * factor, i) for c, i in terms)


def _times(value: Complex, numerator: int, size: int) -> Complex:
    """``value * exp(-2 pi i numerator / size)``, not yet computed."""
    cos, sin = _unit(numerator % size, size)
    re, im = value
    return _scaled(re, cos) + _scaled(im, sin), _scaled(im, cos) + _scaled(re, -sin)


def _unit(numerator: int, size: int) -> tuple[float, float]:
    """Cosine and sine of ``2 pi numerator / size``, exact at multiples of a quarter turn."""
    quarter, rest = divmod(4 * numerator, size)
    angle = 2.0 * math.pi * numerator / size
    return (
        ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarter] if rest == 0 else (math.cos(angle), math.sin(angle))
    )


def _smallest_factor(n: int) -> int:
    return next((p for p in range(2, n) if n % p == 0), n)


def _transform(builder: _Builder, x: list[Complex], real: bool) -> list[Complex]:
    """The spectrum of ``x``: all of it, or for real input the first ``n // 2 + 1`` elements."""
    n = len(x)
    if n == 1:
        return x
    p = _smallest_factor(n)
    length = n // p
    parts = [_transform(builder, x[j::p], real) for j in range(p)]
    twiddled: dict[tuple[int, int], Complex] = {}

    def part(j: int, k: int) -> Complex:
        """``w_n^(jk) E_j[k]`` for ``k`` of one part's spectrum."""
        if (j, k) not in twiddled:
            mirrored = real and k > length // 2
            re, im = parts[j][length - k if mirrored else k]
            twiddled[j, k] = builder.sum([_times((re, _scaled(im, -1.0) if mirrored else im), j * k, n)])
        return twiddled[j, k]

    wanted = range(n // 2 + 1 if real else n)
    return [builder.sum([_times(part(j, k % length), j * (k // length) * length, n) for j in range(p)]) for k in wanted]


@functools.cache
def real_dft(n: int) -> Program:
    """``n`` reals to ``n`` reals: Re X[0], for even ``n`` Re X[n/2], then Re and Im of X[1], X[2], ..."""
    builder = _Builder(n)
    spectrum = _transform(builder, [(((1.0, i),), _ZERO) for i in range(n)], real=True)
    ordered = [spectrum[0][0]] + [spectrum[n // 2][0]] * (n % 2 == 0)
    ordered += [part for k in range(1, (n + 1) // 2) for part in spectrum[k]]
    outputs = tuple(builder.output(terms) for terms in ordered)
    return Program(n, tuple(builder.steps), outputs)


@functools.cache
def complex_dft(n: int) -> Program:
    """Real and imaginary parts in turn, ``2 n`` values to ``2 n``."""
    builder = _Builder(2 * n)
    values: list[Complex] = [(((1.0, 2 * i),), ((1.0, 2 * i + 1),)) for i in range(n)]
    spectrum = _transform(builder, values, real=False)
    outputs = tuple(builder.output(part) for value in spectrum for part in value)
    return Program(2 * n, tuple(builder.steps), outputs)


@functools.cache
def transposed(program: Program, wanted: int | None = None) -> Program:
    """The program of the transposed matrix; of its outputs the first ``wanted`` (default: all)."""
    readers: dict[int, list[tuple[float, int]]] = {}
    builder = _Builder(len(program.outputs))
    known: dict[int, Terms] = {}
    for row, index in enumerate(program.outputs):
        readers.setdefault(index, []).append((1.0, -1 - row))
    for number, terms in enumerate(program.steps):
        for coefficient, index in terms:
            readers.setdefault(index, []).append((float(coefficient), program.inputs + number))

    def gather(index: int) -> Terms:
        """What flows back into a value: from the outputs it is, and from the steps that read it."""
        if index not in known:
            terms: list[tuple[float, int]] = []
            for coefficient, reader in readers.get(index, []):
                if reader < 0:
                    terms.append((coefficient, -1 - reader))
                else:
                    terms += [(coefficient * float(c), i) for c, i in gather(reader)]
            known[index] = builder.value(tuple(terms))
        return known[index]

    count = program.inputs if wanted is None else wanted
    outputs = tuple(builder.output(gather(index)) for index in range(count))
    return Program(len(program.outputs), tuple(builder.steps), outputs)
