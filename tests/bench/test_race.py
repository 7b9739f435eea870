"""Timing in turns: what engines do wrong is their result, and what they do right is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from te_kernels.machine import describe, host_target
from tests.bench.engines import entrant
from tvm_globalsel.bench.gauge import Gauge
from tvm_globalsel.bench.process import EngineError, EngineProcess
from tvm_globalsel.bench.race import race

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
EXPECTED = (2.0 * X.astype(np.float64),)


@pytest.fixture(scope="module")
def gauge() -> Gauge:
    return Gauge(host_target(1), describe(host_target(1), 1))


def test_engines_take_turns_and_failures_are_reasons(tmp_path: Path, gauge: Gauge) -> None:
    entrants = [
        entrant(tmp_path, "fast", "time.sleep(0.002); return [2 * self.x]"),
        entrant(tmp_path, "slow", "time.sleep(0.02); return [2 * self.x]"),
        entrant(tmp_path, "wrong", "return [3 * self.x]"),
        entrant(tmp_path, "loud", "print('{}'); return [2 * self.x[None]]"),
        entrant(tmp_path, "unloadable", "return []", load="raise ValueError('no such operator')"),
        entrant(tmp_path, "dying", "os._exit(3)"),
        entrant(tmp_path, "short", "return [self.x[:1]]"),
        entrant(tmp_path, "many", "return [self.x, self.x]"),
    ]
    figures, missing = race(entrants, {"x": X}, EXPECTED, 1, gauge, 2, 2, tmp_path, lambda text: None)
    assert set(figures) == {"fast", "slow", "wrong", "loud"}
    assert 0.002 <= figures["fast"].min_s <= figures["fast"].median_s < figures["slow"].min_s
    assert figures["slow"].runs >= 8
    assert figures["fast"].max_rel_error < 1e-6
    assert figures["wrong"].max_rel_error == pytest.approx(0.5, rel=1e-3)
    assert all(f.rss_bytes > 1 << 20 and f.load_s >= 0 for f in figures.values())
    assert "no such operator" in missing["unloadable"]
    assert "its process died (exit code 3)" in missing["dying"]
    assert "an output has the shape [1, 3], not [2, 3]" in missing["short"]
    assert "it has 2 outputs, the model 1" in missing["many"]


def test_a_hanging_engine_is_given_up(tmp_path: Path) -> None:
    hanging = entrant(tmp_path, "hanging", "return []", prepare="time.sleep(60)")
    with EngineProcess(hanging.hosted, 1) as process, pytest.raises(EngineError, match="no answer within 1 s"):
        process.ask(1.0, prepare="m", folder=str(tmp_path), threads=1)


def test_probe_uses_every_thread(gauge: Gauge) -> None:
    both = Gauge(host_target(2), describe(host_target(2), 2), 2)  # checks itself that each thread did its work
    assert both.peak_gflops > 0.5 * gauge.peak_gflops
