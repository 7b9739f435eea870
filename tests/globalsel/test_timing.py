"""When a timing counts as disturbed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
import tvm

from te_kernels import probes
from te_kernels.machine import host_target
from tvm_globalsel import timing
from tvm_globalsel.timing import Handoff, Patience, at_full_speed, slowdown, undisturbed


class _Machine:
    """A handoff probe that takes as long as it is told."""

    def __init__(self) -> None:
        self.seconds = 0.0005
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(timing, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(timing, "_POLL_S", 0.01)
    yield


def test_threads_that_are_apart_are_waited_for(quick: None) -> None:
    machine = _Machine()
    handoff = Handoff(machine)
    assert handoff.wait() and handoff.disturbance() <= 1
    machine.seconds = 0.002
    assert handoff.disturbance() > 1.5
    before = machine.runs
    assert not handoff.wait() and machine.runs > before + 3
    before = machine.runs
    assert not handoff.wait() and machine.runs == before, "right after waiting in vain it does not wait again"
    machine.seconds = 0.0005
    time.sleep(0.25)
    assert handoff.wait()


def test_a_slowed_block_counts_as_at_full_speed() -> None:
    assert at_full_speed(3.0, 1.5, 1.9) == pytest.approx(2.0)
    assert at_full_speed(3.0, 1.0, 2.0) == 3.0, "what may have ended before the block stays"
    assert at_full_speed(3.0, 1.1, 1.05) == 3.0, "what is no more than noise stays"
    assert at_full_speed(3.0, 30.0, 40.0) == pytest.approx(1.5), "a probe that waited for its turn says nothing more"


def test_least_disturbed_attempt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_MOST_PATIENCE_S", 0.0)
    attempts = iter([(2.0, 5.0), (1.3, 4.0), (1.5, 3.0), (1.4, 2.0)])
    assert undisturbed(lambda: next(attempts), Patience()) == 4.0
    attempts = iter([(2.0, 5.0), (1.1, 4.0)])
    assert undisturbed(lambda: next(attempts), Patience()) == 4.0


def test_a_better_moment_is_waited_for_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_MOST_PATIENCE_S", 0.3)
    monkeypatch.setattr(timing, "_POLL_S", 0.01)
    attempts = iter([*[(2.0, 5.0)] * 9, (1.0, 4.0)])
    assert undisturbed(lambda: next(attempts), Patience()) == 4.0
    start, patience = time.monotonic(), Patience()
    for _ in range(3):  # no end to it: patience is lost once, not every time
        assert undisturbed(lambda: (1.5, 3.0), patience) == 3.0
    assert 0.2 < time.monotonic() - start < 2.0


def test_nothing_is_timed_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is slowed, one attempt when patience is lost; none before it is quiet again."""
    monkeypatch.setattr(timing, "_MOST_PATIENCE_S", 0.2)
    monkeypatch.setattr(timing, "_POLL_S", 0.01)
    attempts = iter([(1.5, 3.0), (1.4, 2.0)])
    assert undisturbed(lambda: next(attempts), Patience(), quiet=lambda: False) == 3.0
    moments, attempts = iter([False, False, True]), iter([(1.05, 3.0)])
    assert undisturbed(lambda: next(attempts), Patience(), quiet=lambda: next(moments)) == 3.0
    assert next(moments, None) is None
    # it seemed quiet, was not, and is again
    moments, attempts = iter([True, False, True]), iter([(1.5, 3.0), (1.1, 2.0)])
    assert undisturbed(lambda: next(attempts), Patience(), quiet=lambda: next(moments)) == 2.0


def test_waiting_ends_before_a_time_limit(quick: None) -> None:
    """Else a sound kernel on a slowed machine runs out of time, and is never tried again."""
    patience = Patience()
    patience.limit(0.2)
    start, attempts = time.monotonic(), []
    while time.monotonic() < start + 0.3:
        attempts.append(undisturbed(lambda: (1.5, 3.0), patience, quiet=lambda: False))
    assert len(attempts) > 100 and set(attempts) == {3.0}
    machine = _Machine()
    handoff = Handoff(machine)
    machine.seconds, before = 0.002, machine.runs
    assert not handoff.wait(patience) and machine.runs == before
    patience.limit(math.inf)
    assert not patience.at_end and patience.wait()


def test_an_interruption_is_no_slowed_machine() -> None:
    seconds = iter([2.0, 3.0, 1.05])
    assert slowdown(lambda: next(seconds), 1.0) == (1.05, 1.0)
    assert slowdown(lambda: 1.5, 1.0) == (1.5, 1.0)
    assert slowdown(lambda: 0.5, 1.0) == (1.0, 0.5)


def test_what_may_be_a_moment_is_not_waited_for_long() -> None:
    moments = iter([False, True] * 20)
    start, patience = time.monotonic(), Patience()
    for _ in range(20):
        assert undisturbed(lambda: (1.0, 3.0), patience, quiet=lambda: next(moments)) == 3.0
    assert time.monotonic() - start < 1.0, "a tenth of a second each would take two"


@pytest.mark.parametrize("threads", [2, 3])
def test_handoff_probe_passes_values_round(threads: int) -> None:
    module = tvm.IRModule({"main": probes.handoff(threads, 1)})
    a, b = probes.handoff_arguments(threads)
    lines = np.random.default_rng(0).standard_normal((threads, 16)).astype(np.float32)
    a.copyfrom(lines.reshape(-1))
    tvm.compile(module, target=host_target(threads)).mod["main"](a, b)
    assert np.array_equal(b.numpy().reshape(threads, 16), np.roll(lines, -1, axis=0))
    assert np.array_equal(a.numpy().reshape(threads, 16), np.roll(lines, -2, axis=0))
