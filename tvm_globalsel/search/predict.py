"""What an unmeasured candidate probably costs: a regression of the tuning log, calibrated on it.

The regression (:mod:`~tvm_globalsel.search.fit`) predicts the logarithm of time over a typical multiple of the bound,
so that a candidate unlike all others is guessed from its bound. How far its predictions miss is found by leaving out
parts of the log (:mod:`~tvm_globalsel.search.calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from te_kernels.task import OpaqueTask, Task, from_dict
from te_kernels.variant import Variant, from_knobs
from tvm_globalsel.log import Context, Record, variant_revision
from tvm_globalsel.measure import Request
from tvm_globalsel.search.bounds import Rates, units
from tvm_globalsel.search.calibration import Closeness, Closest, calibrate, normal_misses, numbered
from tvm_globalsel.search.features import features, twins, typical_s
from tvm_globalsel.search.fit import LEAST_SPREAD, LOW_QUANTILE, Fit, Samples
from tvm_globalsel.search.relatives import Kin

_FEWEST_RECORDS = 24
_MOST_RECORDS = 3000
#: Deviation of the logarithm that is assumed without data.
_BLIND_SPREAD = 0.5
_WIDEST = 4.0
#: How often variants of one family on one task err alike: what is left of such predictions correlates by its square
#: (0.2-0.6 in replays, of candidates within 15 % of the best).
_SHARED = 0.65


@dataclass(frozen=True)
class Estimate:
    """Of candidates ``(n,)``: sound bound and median in seconds, and the deviation of the median's logarithm.

    ``misses``, ``(kinds, samples)``, are samples of (logarithm of the truth over the median) in deviations, sorted;
    ``kind`` is whose of them a candidate's are; ``kin`` numbers those that may err together.
    """

    bound_s: np.ndarray
    median_s: np.ndarray
    spread: np.ndarray
    kin: np.ndarray
    kind: np.ndarray
    misses: np.ndarray

    @property
    def low_s(self) -> np.ndarray:
        """The low quantile, or the bound where that is higher."""
        return self.at(np.quantile(self.misses, LOW_QUANTILE, axis=1)[self.kind])

    def at(self, deviations: np.ndarray) -> np.ndarray:
        """Seconds that many deviations from the median, not below the bound."""
        cut = np.clip(deviations, -_WIDEST, _WIDEST)
        return np.maximum(self.bound_s, self.median_s * np.exp(cut * self.spread))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Seconds as they may turn out; relatives (``kin``) may err together."""
        samples = self.misses.shape[1]
        shared = rng.integers(samples, size=int(self.kin.max(initial=0)) + 1)[self.kin]
        own = rng.integers(samples, size=len(self.spread))
        rank = np.where(rng.random(len(self.spread)) < _SHARED, shared, own)
        return self.at(self.misses[self.kind, rank])


@dataclass(frozen=True)
class _Row:
    """One record as the trees see it: ``guess_s`` is what its cost is compared with."""

    kin: Kin
    features: np.ndarray
    guess_s: float


class Predictor:
    """Estimates the candidates of one network in one context."""

    def __init__(self, requests: list[Request], rates: Rates, context: Context) -> None:
        self._rates, self._context = rates, context
        self._units = np.array([units(r.task, r.variant, context.of(r.task).weights) for r in requests]).reshape(-1, 4)
        self.bound_s = rates.bound_s(self._units)
        self._candidates = [self._row(r.task, r.variant, context.of(r.task).weights) for r in requests]
        self._guess_s = np.array([row.guess_s for row in self._candidates])
        self._kin = numbered((row.kin.family, row.kin.task) for row in self._candidates)
        self._families = list(dict.fromkeys(row.kin.family for row in self._candidates))
        self._family = numbered(row.kin.family for row in self._candidates)
        self._samples = _samples(self._candidates)
        self._learnt: dict[str, _Row | None] = {}

    def proven_s(self, known_s: np.ndarray) -> np.ndarray:
        """Bounds of all candidates, by rates that what is known of them does not contradict."""
        return self._rates.raised(self._units, known_s).bound_s(self._units)

    def estimate(self, records: Iterable[Record]) -> Estimate:
        """From all records of this device; from the bounds where they are too few."""
        rows = [(row, record.cost_s) for record in records if (row := self._learn(record)) is not None][-_MOST_RECORDS:]
        families = max(1, len(self._families))
        if len(rows) < _FEWEST_RECORDS:
            blind = np.full(len(self.bound_s), _BLIND_SPREAD)
            misses = np.tile(normal_misses(), (families, 1))
            return Estimate(self.bound_s, self._guess_s, blind, self._kin, self._family, misses)
        samples, values = _samples([row for row, _ in rows]), np.array([math.log(c / row.guess_s) for row, c in rows])
        median, spread = Fit(samples, values).quantiles(self._samples)
        calibrations = calibrate(samples, values)
        closest = Closest(samples.kin)
        closeness = [closest.of(row.kin) for row in self._candidates]
        spread *= [calibrations[c].of(row.kin.variant) for c, row in zip(closeness, self._candidates, strict=True)]
        measured = {one.family for one in samples.kin}
        spread[[row.kin.family not in measured for row in self._candidates]] = _BLIND_SPREAD
        misses = np.array([calibrations[level].misses_of(family) for level in Closeness for family in self._families])
        kind = self._family + np.array(closeness) * families
        median_s = self._guess_s * np.exp(median)
        return Estimate(self.bound_s, median_s, np.maximum(LEAST_SPREAD, spread), self._kin, kind, misses)

    def _row(self, task: Task, variant: Variant, weights: str) -> _Row:
        bound_s = float(self._rates.bound_s(units(task, variant, weights)))
        kin = Kin(variant.family, variant.name, f"{task.key} {weights}", twins(variant))
        case = (task, variant, self._rates, weights, bound_s)
        return _Row(kin, features(*case), typical_s(*case))

    def _learn(self, record: Record) -> _Row | None:
        """What a record teaches; None for one that is of no use here. A log is untrusted: any of it may be wild."""
        if record.key not in self._learnt:
            self._learnt[record.key] = None
            if math.isfinite(record.cost_s) and record.cost_s > 0 and self._is_ours(record):
                try:
                    task, variant = from_dict(record.task), from_knobs(record.variant, record.knobs)
                    current = f'"revision":"{variant_revision(variant.name)}"' in record.key
                    # an opaque operator is known by its text alone, from which nothing can be learnt
                    if current and not isinstance(task, OpaqueTask):
                        self._learnt[record.key] = self._row(task, variant, str(record.context["weights"]))
                except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
                    pass
        return self._learnt[record.key]

    def _is_ours(self, record: Record) -> bool:
        context = Context(**record.context)
        return replace(context, weights="") == replace(self._context, weights="")


def _samples(rows: list[_Row]) -> Samples:
    return Samples(np.array([row.features for row in rows]), [row.kin for row in rows])
