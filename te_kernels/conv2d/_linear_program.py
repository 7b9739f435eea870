"""Linear maps as short straight-line programs of weighted sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

T = TypeVar("T")
#: Exact for Winograd, rounded to float64 for Fourier.
Coefficient = Fraction | float
Terms = tuple[tuple[Coefficient, int], ...]


@dataclass(frozen=True)
class Program:
    """Values ``0 .. inputs-1`` are the inputs, each step appends one; ``outputs`` names the values of the rows."""

    inputs: int
    steps: tuple[Terms, ...]
    outputs: tuple[int, ...]

    def run(self, values: Sequence[T], combine: Callable[[list[tuple[Any, T]]], T]) -> list[T]:
        """Evaluate; ``combine`` turns ``[(coefficient, value), ...]`` into their weighted sum."""
        known = list(values)
        for terms in self.steps:
            known.append(combine([(c, known[i]) for c, i in terms]))
        return [known[i] for i in self.outputs]

    @property
    def operations(self) -> int:
        """Vector instructions: a sum of ``n`` terms takes ``n - 1`` (fused) operations."""
        return sum(max(1, len(terms) - 1) for terms in self.steps)


def weighted_sum(terms: Sequence[tuple[Any, Any]], constant: Callable[[float], Any]) -> Any:
    """An expression that starts at a unit coefficient where there is one and continues with multiply-adds."""
    first, *rest = sorted(terms, key=lambda term: (term[0] != 1, term[0] != -1, abs(term[0])))
    coefficient, value = first
    result = value if coefficient == 1 else value * constant(float(coefficient))
    for coefficient, value in rest:
        product = value if abs(coefficient) == 1 else value * constant(float(abs(coefficient)))
        result = result + product if coefficient > 0 else result - product
    return result
