"""What a candidate's relatives took: means over its family, its variant and its task, each shrunk towards the last.

Most of what makes a kernel slow is common to a task's variants of one family (an awkward width) or to a variant on all
tasks. With few records these means predict better than any regression; the trees of ``predict.py`` correct them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

#: Imagined records at the value of the level above: family at the guess, variant at its family, task at none.
_FAMILY_WEIGHT, _VARIANT_WEIGHT, _TASK_WEIGHT = 1.0, 2.0, 0.7


@dataclass(frozen=True)
class Kin:
    """To whom a candidate is related. ``twins`` is what it has in common with those that differ in layouts only."""

    family: str
    variant: str
    task: str
    twins: str


class Relatives:
    """Shrunk means of ``values``, one a record; leave-one-out for the records themselves."""

    def __init__(self, kin: list[Kin], values: np.ndarray) -> None:
        self._sums: dict[object, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        for own, value in zip(kin, values, strict=True):
            self._add((own.family,), float(value))
            self._add((own.family, own.variant), float(value))
        self._common = [self._of_variant(own, None) for own in kin]
        for own, value, common in zip(kin, values, self._common, strict=True):
            self._add((own.family, own.task, "task"), float(value) - common)
        self.leave_one_out = np.array([
            self._of_variant(own, float(value)) + self._of_task(own, float(value) - common)
            for own, value, common in zip(kin, values, self._common, strict=True)
        ])  # fmt: skip

    def _add(self, group: object, value: float) -> None:
        total, count = self._sums[group]
        self._sums[group] = total + value, count + 1

    def _mean(self, group: object, prior: float, weight: float, without: float | None) -> float:
        total, count = self._sums.get(group, (0.0, 0))
        if without is not None:
            total, count = total - without, count - 1
        return (total + weight * prior) / (count + weight)

    def _of_variant(self, own: Kin, without: float | None) -> float:
        family = self._mean((own.family,), 0.0, _FAMILY_WEIGHT, without)
        return self._mean((own.family, own.variant), family, _VARIANT_WEIGHT, without)

    def _of_task(self, own: Kin, without: float | None) -> float:
        return self._mean((own.family, own.task, "task"), 0.0, _TASK_WEIGHT, without)

    def of(self, own: Kin) -> float:
        """For a candidate that is not among the records."""
        return self._of_variant(own, None) + self._of_task(own, None)

    def count(self, own: Kin) -> int:
        """Records of the same task and family."""
        return self._sums.get((own.family, own.task, "task"), (0.0, 0))[1]
