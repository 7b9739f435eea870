"""Predictions: calibrated on what they have not seen, repeatable, deaf to nonsense."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.search.spaces import CONTEXT, RATES, Bench, everything
from tvm_globalsel.log import median_interval
from tvm_globalsel.search.confidence import deciding_ties, pooled, unsettled
from tvm_globalsel.search.predict import Predictor
from tvm_globalsel.search.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return everything()


def test_held_out_candidates_lie_above_their_low_quantile(space: Space) -> None:
    bench = Bench(space)
    order = np.random.default_rng(0).permutation(len(space))
    half = order[: len(order) // 2]
    bench.measure([space.requests[i] for i in half])
    estimate = bench.predictor.estimate(bench.log)
    rest = order[len(order) // 2 :]
    assert np.mean(bench.truth_s[rest] >= estimate.low_s[rest]) > 0.75
    blind = bench.predictor.estimate([])
    error = np.abs(np.log(estimate.median_s / bench.truth_s))[rest].mean()
    assert error < 0.6 * np.abs(np.log(blind.median_s / bench.truth_s))[rest].mean()
    assert (estimate.low_s >= estimate.bound_s).all() and (estimate.low_s <= estimate.median_s + 1e-12).all()


def test_estimates_are_repeatable(space: Space) -> None:
    bench = Bench(space)
    bench.measure(space.requests[::3])
    one = bench.predictor.estimate(bench.log)
    other = Predictor(space.requests, RATES, CONTEXT).estimate(bench.log)
    assert np.array_equal(one.median_s, other.median_s) and np.array_equal(one.spread, other.spread)


def test_records_that_are_nonsense_or_foreign_teach_nothing(space: Space) -> None:
    bench = Bench(space)
    bench.measure(space.requests[::5])
    sane = bench.predictor.estimate(bench.log)
    record = next(iter(bench.log))
    wild = [
        dataclasses.replace(record, key="a", task={"kind": "conv2d"}),
        dataclasses.replace(record, key="b", variant="no such"),
        dataclasses.replace(record, key="c", knobs={"lanes": 0}),
        dataclasses.replace(record, key="d", context={**record.context, "device": "another"}, costs_s=(99.0,)),
        dataclasses.replace(record, key="e", error="crashed"),
    ]
    assert np.array_equal(Predictor(space.requests, RATES, CONTEXT).estimate([*bench.log, *wild]).median_s,
                          sane.median_s)  # fmt: skip


def test_median_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 8, 10, 15):
        inside = 0
        for _ in range(2000):
            low, high = median_interval(tuple(rng.exponential(size=count)))
            inside += low <= np.log(2) <= high
        assert inside / 2000 >= 0.88
    assert median_interval((3.0,)) == (3.0, 3.0) and median_interval((2.0, 1.0)) == (1.0, 2.0)


def test_only_ties_that_decide_the_plan_are_repeated(space: Space) -> None:
    bench = Bench(space)
    bench.measure(space.requests)
    exact = [bench.log.get(CONTEXT.key(r.task, r.variant)) for r in space.requests]
    assert deciding_ties(space, exact, 32) == []  # no scatter, no doubt
    plan = space.best(bench.truth_s)
    chosen = max((i for i in plan.used if len(space.rivals(i)) > 1), key=lambda i: bench.truth_s[i])
    cost = exact[chosen].cost_s
    vague = list(exact)
    vague[chosen] = dataclasses.replace(exact[chosen], costs_s=(cost, cost, cost, cost, 100 * cost))
    ties = deciding_ties(space, vague, 32)
    assert ties[0] == chosen and set(ties[1:]) <= set(map(int, space.rivals(chosen))) and len(ties) > 1
    assert unsettled(space, exact) == [i for i in sorted(plan.used) if len(exact[i].costs_s) < 10]
    twice = [pooled(record, record) if i in plan.used else record for i, record in enumerate(exact)]
    assert unsettled(space, exact) and unsettled(space, twice) == []
    more = pooled(vague[chosen], exact[chosen])
    assert len(more.costs_s) == 10 and more.cost_s == pytest.approx(cost)
