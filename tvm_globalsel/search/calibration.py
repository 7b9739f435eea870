"""How predictions miss, from records that are left out in turn.

Split conformal prediction (Lei et al., JASA 2018): by how much held-out records miss their median, in multiples of the
fitted deviation, is kept as it is, one sample of it drawn for each candidate. Most predictions are far better than a
normal distribution with the same variance says, and some far worse. How well a candidate is predicted depends on the
closest relative that has been measured, so that whole groups of relatives are left out as well (:class:`Closeness`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from tvm_globalsel.search.fit import Fit, Samples
from tvm_globalsel.search.relatives import Kin

_FOLDS, _THREADS = 3, 2
#: Factor on the deviations of a variant never seen, and how many records it takes to forget it.
_UNKNOWN, _DOUBT = 1.5, 3.0
#: A normal distribution's deviation over the median of its absolute values.
_NORMAL = 1.4826
#: Quantiles that stand for a distribution of misses; how many records make one, and one of a family's own.
_SAMPLES, _FEWEST, _FEWEST_OWN = 100, 24, 30


class Closeness(IntEnum):
    """The closest relative of a candidate among the records."""

    #: Another family on its task, or nothing on its task.
    NONE = 0
    #: Another instance of its family on its task.
    FAMILY = 1
    #: The same instance but for the layouts.
    TWIN = 2


class Closest:
    """Tells the closeness of any candidate to ``kin``."""

    def __init__(self, kin: Iterable[Kin]) -> None:
        known = list(kin)
        self._families = {_family(one) for one in known}
        self._twins = {_twins(one) for one in known}

    def of(self, one: Kin) -> Closeness:
        """To the closest of them."""
        if _twins(one) in self._twins:
            return Closeness.TWIN
        return Closeness.FAMILY if _family(one) in self._families else Closeness.NONE


def _family(one: Kin) -> Hashable:
    return one.task, one.family


def _twins(one: Kin) -> Hashable:
    return one.task, one.twins


@dataclass(frozen=True)
class Calibration:
    """The factor on the deviations of each variant, and each held-out record's miss in multiples of that.

    ``families`` are those of the records.
    """

    factors: dict[str, float]
    unknown: float
    misses: np.ndarray
    families: np.ndarray

    def of(self, variant: str) -> float:
        """The factor; a larger one for a variant without records."""
        return self.factors.get(variant, self.unknown)

    def misses_of(self, family: str) -> np.ndarray:
        """``(100,)`` quantiles: of its own records if they are enough to know its tails by, else of all."""
        own = self.misses[self.families == family]
        return np.quantile(own if len(own) >= _FEWEST_OWN else self.misses, (np.arange(_SAMPLES) + 0.5) / _SAMPLES)


def calibrate(samples: Samples, values: np.ndarray) -> dict[Closeness, Calibration]:
    """For candidates of each closeness to the samples; where too few are known, that of the less close ones."""
    groupings = [numbered(map(_family, samples.kin)), numbered(map(_twins, samples.kin)), np.arange(len(values))]
    folds = [fold for groups in groupings for fold in _folds(groups)]
    with ThreadPoolExecutor(_THREADS) as pool:
        held_out = list(pool.map(lambda out: _missed(samples, values, out), folds))
    missed, closeness = (np.concatenate(parts) for parts in zip(*held_out, strict=True))
    kin = [one for out in folds for one in samples[out].kin]

    def of(chosen: np.ndarray) -> Calibration:
        return _calibrated(missed[chosen], [one for one, own in zip(kin, chosen, strict=True) if own])

    found, last = {}, of(np.full(len(kin), True))
    for level in Closeness:
        if (closeness == level).sum() >= _FEWEST:
            last = of(closeness == level)
        found[level] = last
    return found


def _folds(groups: np.ndarray) -> list[np.ndarray]:
    """Masks of what is left out; a group is left out as a whole."""
    fold = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % _FOLDS
    return [fold == number for number in range(_FOLDS) if 0 < (fold == number).sum() < len(groups)]


def _missed(samples: Samples, values: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how many fitted deviations those left out miss the median, and how close they are to the others."""
    kept = samples[~out]
    median, spread = Fit(kept, values[~out]).quantiles(samples[out])
    closest = Closest(kept.kin)
    return (values[out] - median) / spread, np.array([closest.of(one) for one in samples[out].kin])


def _calibrated(missed: np.ndarray, kin: list[Kin]) -> Calibration:
    unknown = _UNKNOWN * _deviation(missed)
    variants = np.array([one.variant for one in kin])
    factors = {}
    for name in map(str, np.unique(variants)):
        own = missed[variants == name]
        # a mean of logarithms: a few wild records do not make a variant unpredictable, they are among the misses
        known = len(own) * math.log(_deviation(own))
        factors[name] = math.exp((_DOUBT * math.log(unknown) + known) / (_DOUBT + len(own)))
    misses = missed / [factors[one.variant] for one in kin]
    return Calibration(factors, unknown, misses, np.array([one.family for one in kin]))


def _deviation(values: np.ndarray) -> float:
    """From the median of the absolute values; at least 0.2, because a handful may agree by chance."""
    return max(0.2, _NORMAL * float(np.median(np.abs(values))))


def normal_misses() -> np.ndarray:
    """A normal distribution's quantiles, ``(100,)``."""
    return np.array([statistics.NormalDist().inv_cdf((i + 0.5) / _SAMPLES) for i in range(_SAMPLES)])


def numbered(names: Iterable[Hashable]) -> np.ndarray:
    """The same number for the same name, in the order of first sight."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
