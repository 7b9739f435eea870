"""Solve on optimistic costs, measure what the optimistic plans use, repeat until nothing unmeasured can matter.

A round predicts all unmeasured candidates, solves the network exactly for the predictions' medians, their low quantiles
and random draws from their distributions (Thompson sampling; Thompson, Biometrika 1933), and measures the candidates
that these plans use. It ends when the draws improve the incumbent, the best plan of measured candidates, by no more
than the tolerance on average: that is the expected gain from measuring all that is left (the value of perfect
information; Howard, "Information value theory", 1966). The hard bounds alone would prove far less: most kernels
never come near the roofline, so that ruling them out takes a measurement of nearly every candidate.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Request, Tuning
from tvm_globalsel.problem import Infeasible, relative_gap
from tvm_globalsel.search.predict import Estimate, Predictor
from tvm_globalsel.search.space import Plan, Space

_DRAWS = 24
#: Kernels a round: starting the builders costs as much as ten of them.
_LEAST_BATCH, _MOST_BATCH, _FIRST_BATCH = 16, 32, 96
#: The first batch is this part of all candidates, within those limits.
_FIRST_PART = 8
#: A plan that the log has already is not reopened until its gap is this many tolerances: estimates move with the log.
_REOPENED = 3.0

#: Measures requests into the log: (requests, whether they are needed for any plan at all).
Measure = Callable[[list[Request], bool], Tuning]


@dataclass(frozen=True)
class Found:
    """How a search ended. Gaps are relative to the incumbent, None as long as there is none.

    ``proven_gap``: no plan is better by more, if the machine's measured rates bound its kernels (``bounds.py``).
    ``estimated_gap``: by how much the best of all plans is expected to be better, if the predictor is calibrated.
    """

    tuning: Tuning
    rounds: int
    incumbent_s: float
    proven_gap: float | None
    estimated_gap: float | None
    candidates: int
    unmeasured: int


class Search:
    """The state of one search: what the log knows of the space's candidates, and what that implies."""

    def __init__(self, space: Space, predictor: Predictor, log: TuningLog, context: Context) -> None:
        self._space, self._predictor, self._log = space, predictor, log
        self._keys = [context.key(r.task, r.variant) for r in space.requests]

    def known_s(self) -> np.ndarray:
        """Seconds of the measured candidates, infinite for failed ones, NaN for those not measured."""
        records = [self._log.get(key) for key in self._keys]
        return np.array([np.nan if record is None else record.cost_s for record in records])

    def incumbent(self) -> Plan | None:
        """The best plan of measured candidates."""
        known = self.known_s()
        return self._best(np.where(np.isnan(known), np.inf, known))

    def _best(self, costs_s: np.ndarray) -> Plan | None:
        try:
            return self._space.best(costs_s)
        except Infeasible:
            return None

    def estimate(self) -> Estimate:
        """Of all candidates, from the whole log."""
        return self._predictor.estimate(self._log)

    def draws(self, estimate: Estimate) -> list[Plan]:
        """The best plans for the medians, for the low quantiles, and for random draws from all distributions."""
        known = self.known_s()
        rng = np.random.default_rng(0)  # the same draws every time: what is decided depends on the log alone
        costs = [estimate.median_s, estimate.low_s]
        costs += [estimate.draw(rng) for _ in range(_DRAWS)]
        plans = [self._best(np.where(np.isnan(known), cost, known)) for cost in costs]
        return [plan for plan in plans if plan is not None]

    def batch(self, plans: list[Plan], estimate: Estimate, most: int) -> list[int]:
        """Unmeasured candidates of :meth:`draws`: of the median plan, of the optimistic one, then by occurrence.

        A batch that would be too small to be worth a round is filled with those of the least regret.
        """
        known = self.known_s()
        counts = Counter(kernel for plan in plans for kernel in plan.used if np.isnan(known[kernel]))
        for plan, first in zip(plans[:2], (2, 1), strict=False):
            counts.update({kernel: first * len(plans) for kernel in plan.used if np.isnan(known[kernel])})
        chosen = [kernel for kernel, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        if len(chosen) < _LEAST_BATCH:
            regret = self._space.regrets(np.where(np.isnan(known), estimate.low_s, known))
            regret[~np.isnan(known)] = np.inf
            others = [int(k) for k in np.argsort(regret, kind="stable") if np.isfinite(regret[k])]
            chosen += [k for k in others if k not in counts][: _LEAST_BATCH - len(chosen)]
        needed = sum(bool(np.isnan(known[kernel])) for kernel in plans[0].used)  # never half a plan
        return chosen[: max(most, needed)]

    def proven_gap(self, incumbent: Plan) -> float:
        """With every unmeasured candidate at its sound bound."""
        known = self.known_s()
        best = self._best(np.where(np.isnan(known), self._predictor.bound_s, known))
        return relative_gap(incumbent.cost_s, best.cost_s) if best else 0.0

    @staticmethod
    def estimated_gap(incumbent: Plan, draws: list[Plan]) -> float:
        """The mean improvement of the random draws."""
        gaps = [relative_gap(incumbent.cost_s, plan.cost_s) for plan in draws[2:]]
        return float(np.mean(gaps)) if gaps else 0.0

    def run(
        self, measure: Measure, tolerance: float, budget_s: float, clock: Callable[[], float] = time.monotonic,
        stop: Callable[[], bool] = lambda: False, watch: Callable[[int, Plan | None], None] = lambda rounds, plan: None,
    ) -> Found:  # fmt: skip
        """Search until the estimated gap is within ``tolerance``, nothing is left, the time is up or ``stop`` says so.

        Without an incumbent the search goes on whatever the time: there would be no plan. ``watch`` is called after
        every round with the incumbent.
        """
        start = clock()
        tuning, rounds = Tuning(0, 0, 0, 0, 0.0), 0
        while True:
            incumbent = self.incumbent()
            watch(rounds, incumbent)
            if incumbent is not None and (clock() - start >= budget_s or stop()):
                break
            estimate = self.estimate()
            plans = self.draws(estimate)
            enough = tolerance if rounds else _REOPENED * tolerance
            if incumbent is not None and (gap := self.estimated_gap(incumbent, plans)) <= enough:
                return self.found(tuning, rounds, gap)
            batch = self.batch(plans, estimate, _MOST_BATCH if incumbent else self._first_batch) if plans else []
            if not batch:
                break
            done = measure([self._space.requests[kernel] for kernel in batch], incumbent is None)
            tuning, rounds = tuning + done, rounds + 1
            if not done.measured:  # out of time
                break
        return self.found(tuning, rounds)

    @property
    def _first_batch(self) -> int:
        return max(_LEAST_BATCH, min(_FIRST_BATCH, len(self._keys) // _FIRST_PART))

    def found(self, tuning: Tuning, rounds: int, estimated: float | None = None) -> Found:
        """What is known now, with both gaps; ``estimated`` is the second one if it is known."""
        incumbent, known = self.incumbent(), self.known_s()
        unmeasured = int(np.isnan(known).sum())
        if incumbent is None:
            return Found(tuning, rounds, np.inf, None, None, len(known), unmeasured)
        if estimated is None:
            estimated = self.estimated_gap(incumbent, self.draws(self.estimate())) if unmeasured else 0.0
        proven = self.proven_gap(incumbent) if unmeasured else 0.0
        return Found(tuning, rounds, incumbent.cost_s, proven, estimated, len(known), unmeasured)
