"""Bounds: sound for what minimal filtering saves, measured once, kept in the log."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from te_kernels.machine import describe, host_target
from te_kernels.task import ConvTask, TransformTask
from te_kernels.variant import Variant, all_variants
from tests.search.spaces import CONTEXT, MACHINE, RATES
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.log import TuningLog, machine_record
from tvm_globalsel.search import bounds
from tvm_globalsel.search.features import features


def test_families_that_multiply_less_say_so() -> None:
    for cls in all_variants().values():
        if cls.family in ("winograd", "fft"):
            assert cls.arithmetic is not Variant.arithmetic, cls.name


def test_winograd_counts_its_own_products() -> None:
    task = ConvTask(1, 64, 56, 56, 64, 3, 3, pad=(1, 1, 1, 1))
    by_size = {(v.m, v.n): v for v in candidates_for(task, MACHINE).variants if v.family == "winograd"}
    assert len(by_size) > 1
    for (m, n), variant in by_size.items():
        tiles = math.ceil(56 / m) * math.ceil(56 / n)
        assert variant.arithmetic(task) == 2 * (m + 2) * (n + 2) * tiles * 64 * 64 < task.flops
    direct = next(v for v in candidates_for(task, MACHINE).variants if v.family == "direct")
    assert RATES.bound_s(bounds.units(task, direct, "cache")) == pytest.approx(task.flops * RATES.flop_s)


def test_bytes_bound_what_has_no_multiplications() -> None:
    task = TransformTask((1, 64, 56, 56), "NCHW", "NHWC")
    variant = candidates_for(task, MACHINE).variants[0]
    assert RATES.bound_s(bounds.units(task, variant, "cache")) == 2 * 4 * 64 * 56 * 56 * RATES.near_byte_s
    strided = ConvTask(1, 64, 56, 56, 1, 1, 1, stride=(2, 2))  # three quarters of the input are never read
    direct = candidates_for(strided, MACHINE).variants[0]
    assert RATES.bound_s(bounds.units(strided, direct, "cache")) < 4 * 64 * 56 * 56 * RATES.near_byte_s / 2


def test_rates_are_measured_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def measure(*_: object) -> dict[str, float]:
        calls.append(1)
        return {"fma": 4e-12, "L1": 2e-12, "L3": 9e-12, "DRAM": 3e-11}

    monkeypatch.setattr(bounds, "_measure", measure)
    target, path = host_target(1), tmp_path / "log.jsonl"
    first = bounds.machine_rates(TuningLog(path), target, MACHINE, CONTEXT)
    again = bounds.machine_rates(TuningLog(path), target, MACHINE, CONTEXT)
    assert first == again and len(calls) == 1
    assert first.flop_s == pytest.approx(4e-12 / 1.05)
    assert len(TuningLog(path)) == 4
    nonsense = TuningLog()
    nonsense.append([machine_record(CONTEXT, "fma", "flop", "x", (0.0,))])
    assert bounds.machine_rates(nonsense, target, MACHINE, CONTEXT) == first and len(calls) == 2


def test_what_was_measured_contradicts_no_bound() -> None:
    needs = np.array([[1e6, 1e3, 1e4, 0.0], [1e6, 1e5, 0.0, 0.0], [0.0, 1e4, 0.0, 1e6]])
    measured_s = np.array([np.inf, np.nan, 0.5 * RATES.memory_byte_s * 1e6])
    raised = RATES.raised(needs, measured_s)
    assert raised.memory_byte_s == pytest.approx(0.5 * RATES.memory_byte_s)
    assert dataclasses.replace(raised, memory_byte_s=RATES.memory_byte_s) == RATES
    nothing = RATES.raised(needs, np.zeros(3))  # a wild log: what took no time proves no rate where nothing is needed
    assert not np.isnan(nothing.bound_s(needs)).any()
    assert (raised.bound_s(needs)[2] <= measured_s[2]) and raised.bound_s(needs)[0] == RATES.bound_s(needs)[0]


def test_probes_run_here() -> None:
    machine = describe(host_target(1), 1)
    measured = bounds._measure(host_target(1), machine)
    assert 1e-13 < measured["fma"] < 1e-9
    assert measured["DRAM"] >= 0.5 * measured["L1"] > 0


def test_features_have_one_length_for_all_tasks() -> None:
    tasks = [ConvTask(1, 16, 8, 8, 16, 3, 3), TransformTask((1, 16, 8, 8), "NCHW", "NHWC")]
    rows = [features(t, v, RATES, "cache", 1e-6) for t in tasks for v in candidates_for(t, MACHINE).variants]
    assert len({row.shape for row in rows}) == 1 and len({row.tobytes() for row in rows}) == len(rows)
