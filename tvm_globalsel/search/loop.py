"""Solve on optimistic costs, measure what the optimistic plans use, repeat until nothing unmeasured can matter.

A round predicts all unmeasured candidates, solves the network exactly for the predictions' medians, their low quantiles
and random draws from their distributions (Thompson sampling; Thompson, Biometrika 1933), and measures those candidates
of these plans that would gain most over what has been measured. It ends when the draws improve the incumbent, the best
plan of measured candidates, by no more than the tolerance on average: that is the expected gain from measuring all that
is left (the value of perfect information; Howard, "Information value theory", 1966). The hard bounds alone
would prove far less: most kernels never come near the roofline, so that ruling them out takes a measurement of nearly
every candidate.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Request, Tuning
from tvm_globalsel.problem import Infeasible, relative_gap
from tvm_globalsel.search.predict import Estimate, Predictor
from tvm_globalsel.search.space import Plan, Space

_DRAWS = 24
#: Kernels a round: predicting and starting the builders costs as much as ten of them.
_LEAST_BATCH, _MOST_BATCH, _FIRST_BATCH = 16, 32, 96
#: The first batch is this part of all candidates, within those limits; others may be larger than those for many.
_FIRST_PART, _PART = 8, 32
#: From this many tolerances on, a search is not about to end.
_NEAR = 2.0
#: A plan that the log has already is not reopened until its gap is this many tolerances: estimates move with the log.
_REOPENED = 3.0

#: Measures requests into the log: (requests, whether they are needed for any plan at all).
Measure = Callable[[list[Request], bool], Tuning]


@dataclass(frozen=True)
class Guess:
    """Costs as they may be, and the best plan if they are that."""

    costs_s: np.ndarray
    plan: Plan


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
        # a bound that measurements contradict must not keep candidates from being measured either
        return replace(self._predictor.estimate(self._log), bound_s=self._predictor.proven_s(self.known_s()))

    def guesses(self, estimate: Estimate) -> list[Guess]:
        """For the medians, for the low quantiles, and for random draws from all distributions."""
        known = self.known_s()
        rng = np.random.default_rng(0)  # the same draws every time: what is decided depends on the log alone
        costs = [estimate.median_s, estimate.low_s]
        costs += [estimate.draw(rng) for _ in range(_DRAWS)]
        costs = [np.where(np.isnan(known), cost, known) for cost in costs]
        return [Guess(cost, plan) for cost in costs if (plan := self._best(cost)) is not None]

    def batch(self, guesses: list[Guess], estimate: Estimate, most: int) -> list[int]:
        """Unmeasured candidates of the plans, those first from which most is to be gained over all guesses.

        As long as there is no plan at all, that of the medians comes first, and whole. A batch too small to be worth a
        round is filled with candidates of the least regret.
        """
        known, incumbent = self.known_s(), self.incumbent()
        gains_s: dict[int, float] = defaultdict(float)
        for guess in guesses:
            unmeasured = [kernel for kernel in guess.plan.used if np.isnan(known[kernel])]
            # what a plan gains by layouts that fit, it gains by all of its kernels together
            common_s = (incumbent.cost_s - guess.plan.cost_s) / len(unmeasured) if incumbent and unmeasured else 0.0
            for kernel in unmeasured:
                gains_s[kernel] += max(0.0, common_s) + self._gain_s(kernel, float(guess.costs_s[kernel]), known)
        needed = guesses[0].plan.used & gains_s.keys() if incumbent is None else frozenset()
        chosen = sorted(gains_s, key=lambda kernel: (kernel not in needed, -gains_s[kernel], kernel))
        if len(chosen) < _LEAST_BATCH:
            regret = self._space.regrets(np.where(np.isnan(known), estimate.low_s, known))
            regret[~np.isnan(known)] = np.inf
            others = [int(k) for k in np.argsort(regret, kind="stable") if np.isfinite(regret[k])]
            chosen += [k for k in others if k not in gains_s][: _LEAST_BATCH - len(chosen)]
        return chosen[: max(most, len(needed))]

    def _gain_s(self, kernel: int, cost_s: float, known_s: np.ndarray) -> float:
        """By how much it is faster than the fastest measured kernel of its task; all of its cost if there is none."""
        rivals = known_s[self._space.rivals(kernel)]
        measured = rivals[np.isfinite(rivals)]
        return self._space.uses(kernel) * max(0.0, float(measured.min()) - cost_s if len(measured) else cost_s)

    def proven_gap(self, incumbent: Plan) -> float:
        """With every unmeasured candidate at its sound bound."""
        known = self.known_s()
        best = self._best(np.where(np.isnan(known), self._predictor.proven_s(known), known))
        return relative_gap(incumbent.cost_s, best.cost_s) if best else 0.0

    @staticmethod
    def estimated_gap(incumbent: Plan, guesses: list[Guess]) -> float:
        """The mean improvement of the random draws."""
        gaps = [relative_gap(incumbent.cost_s, guess.plan.cost_s) for guess in guesses[2:]]
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
            guesses = self.guesses(estimate)
            enough = tolerance if rounds else _REOPENED * tolerance
            gap = None if incumbent is None else self.estimated_gap(incumbent, guesses)
            if gap is not None and gap <= enough:
                return self.found(tuning, rounds, gap)
            most = self._first_batch if gap is None else self._most(gap / tolerance if tolerance else math.inf)
            batch = self.batch(guesses, estimate, most) if guesses else []
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

    def _most(self, tolerances: float) -> int:
        """Kernels of a later round, with an estimated gap of so many tolerances: few if it may be the last."""
        return _MOST_BATCH if tolerances < _NEAR else max(_MOST_BATCH, len(self._keys) // _PART)

    def found(self, tuning: Tuning, rounds: int, estimated: float | None = None) -> Found:
        """What is known now, with both gaps; ``estimated`` is the second one if it is known."""
        incumbent, known = self.incumbent(), self.known_s()
        unmeasured = int(np.isnan(known).sum())
        if incumbent is None:
            return Found(tuning, rounds, np.inf, None, None, len(known), unmeasured)
        if estimated is None:
            estimated = self.estimated_gap(incumbent, self.guesses(self.estimate())) if unmeasured else 0.0
        proven = self.proven_gap(incumbent) if unmeasured else 0.0
        return Found(tuning, rounds, incumbent.cost_s, proven, estimated, len(known), unmeasured)
