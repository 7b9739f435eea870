"""What an unmeasured candidate probably costs: quantile regression trees on the tuning log, calibrated on it.

The trees predict the logarithm of time over a typical multiple of the bound, so that a candidate unlike all others is
guessed from its bound. Two quantiles are fitted, a low one and the median. How far apart they must be is found by
leaving out parts of the data: by how much the held-out records miss their median, in multiples of the fitted distance,
is kept as it is, one sample of it drawn for each candidate (split conformal prediction: Lei et al., JASA 2018). Most
predictions are far better than a normal distribution with the same variance says, and some far worse.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import xgboost

from te_kernels.task import OpaqueTask, Task, from_dict
from te_kernels.variant import Variant, from_knobs
from tvm_globalsel.log import Context, Record, variant_revision
from tvm_globalsel.measure import Request
from tvm_globalsel.search.bounds import Rates, units
from tvm_globalsel.search.features import features, twins, typical_s
from tvm_globalsel.search.relatives import Kin, Relatives

LOW_QUANTILE = 0.1
#: Standard normal quantile of 90 %: how many deviations the low quantile lies below the median.
_LOW_DEVIATIONS = 1.2816
_FEWEST_RECORDS = 24
_MOST_RECORDS = 3000
_TREES, _DEPTH, _RATE, _FOLDS = 100, 5, 0.15, 3
#: Deviation of the logarithm: the least that is believed of any prediction, and what is assumed without data.
_LEAST_SPREAD, _BLIND_SPREAD = 0.03, 0.5
_WIDEST = 4.0
#: How often variants of one family on one task err alike: what is left of such predictions correlates by its square
#: (0.2-0.6 in replays, of candidates within 15 % of the best).
_SHARED = 0.65
#: Factor on the deviations of a variant never seen, and how many records it takes to forget it.
_UNKNOWN, _DOUBT = 1.5, 3.0
#: A normal distribution's deviation over the median of its absolute values.
_NORMAL = 1.4826
#: Quantiles that stand for a distribution of misses, and how many records make one.
_SAMPLES, _FEWEST_OWN = 100, 30


@dataclass(frozen=True)
class Estimate:
    """Of candidates ``(n,)``: sound bound and median in seconds, and the deviation of the median's logarithm.

    ``misses``, ``(families, samples)``, are samples of (logarithm of the truth over the median) in deviations, sorted;
    ``kin`` and ``family`` number what a candidate belongs to.
    """

    bound_s: np.ndarray
    median_s: np.ndarray
    spread: np.ndarray
    kin: np.ndarray
    family: np.ndarray
    misses: np.ndarray

    @property
    def low_s(self) -> np.ndarray:
        """The low quantile, or the bound where that is higher."""
        return self.at(np.quantile(self.misses, LOW_QUANTILE, axis=1)[self.family])

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
        return self.at(self.misses[self.family, rank])


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
        self._kin = _numbered((row.kin.family, row.kin.task) for row in self._candidates)
        self._families = list(dict.fromkeys(row.kin.family for row in self._candidates))
        self._family = _numbered(row.kin.family for row in self._candidates)
        self._learnt: dict[str, _Row | None] = {}

    def proven_s(self, known_s: np.ndarray) -> np.ndarray:
        """Bounds of all candidates, by rates that what is known of them does not contradict."""
        return self._rates.raised(self._units, known_s).bound_s(self._units)

    def estimate(self, records: Iterable[Record]) -> Estimate:
        """From all records of this device; from the bounds where they are too few."""
        rows = [(row, record.cost_s) for record in records if (row := self._learn(record)) is not None][-_MOST_RECORDS:]
        if len(rows) < _FEWEST_RECORDS:
            blind = np.full(len(self.bound_s), _BLIND_SPREAD)
            misses = np.tile(_normal_sample(), (max(1, len(self._families)), 1))
            return Estimate(self.bound_s, self._guess_s, blind, self._kin, self._family, misses)
        y = np.array([math.log(cost_s / row.guess_s) for row, cost_s in rows])
        relatives = Relatives([row.kin for row, _ in rows], y)
        x = _with(np.array([row.features for row, _ in rows]), relatives.leave_one_out)
        model = _train(x, y)
        own = np.array([relatives.of(row.kin) for row in self._candidates])
        median, spread = _quantiles(model, _with(np.array([row.features for row in self._candidates]), own))
        calibrations = _calibrations(x, y, [row.kin for row, _ in rows])
        measured = {(row.kin.task, row.kin.twins) for row, _ in rows}
        known = [int((row.kin.task, row.kin.twins) in measured) for row in self._candidates]
        spread *= [calibrations[k].of(row.kin.variant) for k, row in zip(known, self._candidates, strict=True)]
        misses = np.array([one.misses_of(family) for one in calibrations for family in self._families])
        kind = self._family + np.array(known) * len(self._families)
        median_s = self._guess_s * np.exp(median)
        return Estimate(self.bound_s, median_s, np.maximum(_LEAST_SPREAD, spread), self._kin, kind, misses)

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


def _with(x: np.ndarray, relatives: np.ndarray) -> np.ndarray:
    return np.column_stack([x, relatives])


def _train(x: np.ndarray, y: np.ndarray) -> xgboost.Booster:
    # one thread: the data are small, and threads that wait for each other spin where the machine is busy
    settings = {
        "objective": "reg:quantileerror", "quantile_alpha": np.array([LOW_QUANTILE, 0.5]), "tree_method": "hist",
        "max_depth": _DEPTH, "eta": _RATE, "min_child_weight": 2, "max_bin": 64, "seed": 0, "nthread": 1,
        "base_score": 0.0,
    }  # fmt: skip
    # the relatives' mean is where boosting starts, so the trees learn what it leaves unexplained
    data = xgboost.QuantileDMatrix(x, y - x[:, -1], max_bin=64, nthread=1)
    return xgboost.train(settings, data, _TREES)


def _quantiles(model: xgboost.Booster, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(median, deviation) of the logarithm."""
    low, median = model.inplace_predict(x).T.astype(np.float64)
    return x[:, -1] + median, np.maximum(_LEAST_SPREAD, (median - low) / _LOW_DEVIATIONS)


@dataclass(frozen=True)
class _Calibration:
    """How predictions miss: the factor on the deviations of each variant, and each record's miss in multiples of that.

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
        """``(_SAMPLES,)`` quantiles: of its own records if they are enough to know its tails by, else of all."""
        own = self.misses[self.families == family]
        return np.quantile(own if len(own) >= _FEWEST_OWN else self.misses, (np.arange(_SAMPLES) + 0.5) / _SAMPLES)


def _calibrations(x: np.ndarray, y: np.ndarray, kin: list[Kin]) -> tuple[_Calibration, _Calibration]:
    """For candidates none of whose twins has been measured, and for those with one."""
    groups = _numbered((one.task, one.twins) for one in kin)
    apart = _calibrated(_missed(x, y, groups), kin)
    together = np.bincount(groups)[groups] > 1
    if together.sum() < _FEWEST_RECORDS:
        return apart, apart
    missed = _missed(x, y, np.arange(len(y)))
    return apart, _calibrated(missed[together], [one for one, own in zip(kin, together, strict=True) if own])


def _missed(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """By how many fitted deviations records that were left out miss the median; those of a group are left out at once."""
    order = np.random.default_rng(0).permutation(groups.max() + 1)
    fold = order[groups] % _FOLDS
    missed = np.zeros(len(y))
    for left_out in range(_FOLDS):
        out = fold == left_out
        median, spread = _quantiles(_train(x[~out], y[~out]), x[out])
        missed[out] = (y[out] - median) / spread
    return missed


def _calibrated(missed: np.ndarray, kin: list[Kin]) -> _Calibration:
    unknown = _UNKNOWN * _deviation(missed)
    variants = np.array([one.variant for one in kin])
    factors = {}
    for name in map(str, np.unique(variants)):
        own = missed[variants == name]
        # a mean of logarithms: a few wild records do not make a variant unpredictable, they are among the misses
        known = len(own) * math.log(_deviation(own))
        factors[name] = math.exp((_DOUBT * math.log(unknown) + known) / (_DOUBT + len(own)))
    misses = missed / [factors[one.variant] for one in kin]
    return _Calibration(factors, unknown, misses, np.array([one.family for one in kin]))


def _deviation(values: np.ndarray) -> float:
    """From the median of the absolute values; at least 0.2, because a handful may agree by chance."""
    return max(0.2, _NORMAL * float(np.median(np.abs(values))))


def _normal_sample() -> np.ndarray:
    """A normal distribution's quantiles."""
    return np.array([statistics.NormalDist().inv_cdf((i + 0.5) / _SAMPLES) for i in range(_SAMPLES)])


def _numbered(names: Iterable[Hashable]) -> np.ndarray:
    """The same number for the same name, in the order of first sight."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
