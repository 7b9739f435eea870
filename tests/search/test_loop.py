"""The search: near the optimum with part of the measurements, honest gaps, a plan whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest

from tests.search.spaces import Bench, everything
from tvm_globalsel.measure import Request, Tuning
from tvm_globalsel.problem import Infeasible
from tvm_globalsel.search.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return everything()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_the_optimum_with_part_of_the_measurements(space: Space, seed: int) -> None:
    bench = Bench(space, seed)
    found = bench.search.run(bench.measure, 0.01, math.inf)
    assert len(bench.measured) == len(set(bench.measured)) == found.tuning.measured
    assert found.unmeasured == len(space) - len(bench.measured) > len(space) // 4
    gap = found.incumbent_s / bench.optimum_s - 1
    assert gap < 0.02
    assert found.estimated_gap is not None and found.estimated_gap <= 0.01
    # the hard bound is sound: here every kernel is slower than its bound
    assert found.proven_gap is not None and 1 - bench.optimum_s / found.incumbent_s <= found.proven_gap
    assert found.incumbent_s == pytest.approx(bench.search.incumbent().cost_s)


def test_tolerance_is_a_trade(space: Space) -> None:
    counts = []
    for tolerance in (0.2, 0.01):
        bench = Bench(space)
        bench.search.run(bench.measure, tolerance, math.inf)
        counts.append(len(bench.measured))
    assert counts[0] < counts[1]


def test_no_time_still_gives_a_plan(space: Space) -> None:
    bench = Bench(space)
    found = bench.search.run(bench.measure, 0.01, 0.0)
    assert math.isfinite(found.incumbent_s) and found.rounds == 1
    assert found.estimated_gap is not None and found.estimated_gap > 0


def test_stop_and_clock_end_it(space: Space) -> None:
    bench, ticks = Bench(space), itertools.count()
    found = bench.search.run(bench.measure, 0.0, 3.0, clock=lambda: float(next(ticks)))
    assert found.unmeasured > 0
    asked = Bench(space)
    assert asked.search.run(asked.measure, 0.0, math.inf, stop=lambda: True).rounds == 1


def test_failures_are_not_tried_again_and_end_without_a_plan(space: Space) -> None:
    from tests.search.spaces import CONTEXT
    from tvm_globalsel.log import make_record

    bench = Bench(space)

    def fail(requests: list[Request], required: bool) -> Tuning:
        bench.measured += [bench.number[id(r)] for r in requests]
        bench.log.append([make_record(CONTEXT, r.task, r.variant, error="crashed") for r in requests])
        return Tuning(len(requests), 0, len(requests), 0, 0.0)

    found = bench.search.run(fail, 0.01, math.inf)
    assert math.isinf(found.incumbent_s) and found.proven_gap is None
    assert len(bench.measured) == len(set(bench.measured))


def test_problem_of_the_space_is_the_problem_of_the_selection(space: Space) -> None:
    """The optimum of flat costs adds up from them, and nothing that avoids a part of it is better."""
    costs = np.random.default_rng(3).lognormal(0, 1, len(space))
    best = space.best(costs)
    assert best.cost_s == pytest.approx(sum(costs[i] for i in best.used), rel=0.5)  # tasks may repeat
    for candidate in best.used:  # no plan that avoids any of its parts is better
        without = costs.copy()
        without[candidate] = np.inf
        with contextlib.suppress(Infeasible):
            assert space.best(without).cost_s >= best.cost_s
    regret = space.regrets(costs)
    assert all(regret[i] == 0 for i in best.used if np.isfinite(regret[i]))


def test_ten_searches_amid_noise_agree(space: Space) -> None:
    """Blocks are slowed at random, sometimes twofold; what is chosen is as good as ever by the true costs."""
    true_s = []
    for seed in range(10):
        bench = Bench(space, 0, noise=0.01)
        bench.rng = np.random.default_rng(seed)
        bench.search.run(bench.measure, 0.01, math.inf)
        used = bench.search.incumbent().used
        mask = np.full(len(space), np.inf)
        mask[list(used)] = bench.truth_s[list(used)]
        true_s.append(space.best(mask).cost_s)
    assert max(true_s) / bench.optimum_s < 1.02
