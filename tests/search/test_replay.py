"""Replays and traces: a full log gives back its costs and the seconds they took."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.search.spaces import CONTEXT, Bench, everything
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.log import TuningLog
from tvm_globalsel.search import trace
from tvm_globalsel.search.loop import Search
from tvm_globalsel.search.replay import ROUND_S, Replay, measuring_seconds


@pytest.fixture(scope="module")
def full() -> Bench:
    bench = Bench(everything())
    bench.measure(bench.space.requests)
    return bench


def test_seconds_are_those_between_the_lines(full: Bench) -> None:
    first, second, third, late = (
        dataclasses.replace(r, time=t) for r, t in zip(full.log, (0, 4, 4, 900), strict=False)
    )
    seconds = measuring_seconds([late, first, second, third])
    assert seconds[id(second)] == seconds[id(third)] == 2.0
    assert seconds[id(late)] == seconds[id(first)] == 2.0  # the usual, where the log does not tell


def test_replayed_search_finds_what_it_found_live(full: Bench) -> None:
    log = TuningLog()
    replay = Replay(list(full.log), log, CONTEXT)
    state = Search(full.space, full.predictor, log, CONTEXT)
    points, found = trace.of_search(state, replay.measure, lambda: replay.seconds, 0.01, float("inf"))
    live = Bench(full.space)
    assert found.incumbent_s == live.search.run(live.measure, 0.01, float("inf")).incumbent_s
    assert replay.seconds >= ROUND_S * found.rounds
    assert points[-1].kernels == found.tuning.measured
    assert trace.reached(points, found.incumbent_s) is not None and trace.reached(points, 0.0) is None


def test_order_ends_at_the_optimum(full: Bench) -> None:
    log = TuningLog()
    replay = Replay(list(full.log), log, CONTEXT)
    state = Search(full.space, full.predictor, log, CONTEXT)
    order = list(range(len(full.space)))
    points = trace.of_order(state, full.space, order, 64, replay.measure, lambda: replay.seconds, float("inf"))
    assert points[-1].kernels == len(order)
    assert points[-1].cost_s == pytest.approx(full.optimum_s)
    twice = trace.repriced(points, full.space, 2 * full.truth_s)
    assert [p.cost_s for p in twice] == pytest.approx([2 * p.cost_s for p in points])
    assert np.isinf(trace.repriced([trace.Point(0.0, 0, np.inf, frozenset())], full.space, full.truth_s)[0].cost_s)
    assert trace.optimum_s(full.space, np.full(len(order), np.inf)) == np.inf


def test_what_the_log_lacks_cannot_be_replayed(full: Bench) -> None:
    some = list(full.log)[:1]
    replay = Replay(some, TuningLog(), CONTEXT)
    first = full.space.requests[0]
    variants = tuple(r.variant for r in full.space.requests if r.task == first.task)
    assert replay.only_known(Candidates(first.task, variants, ())).variants == (first.variant,)
    with pytest.raises(ValueError, match="not in the log"):
        replay.measure([full.space.requests[1]])
