"""Measuring: costs of good kernels, error records for bad ones, nothing measured twice."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from te_kernels.machine import describe, host_target
from te_kernels.task import TransformTask
from tvm_globalsel.log import Context, TuningLog, make_record

_CONTEXT = Context("llvm:test", "some CPU", 1, "0.27.0.post1")

#: The bad variants must not exist for the other tests, so they are measured in a process of their own.
_SCRIPT = """
import json, os, sys, tempfile
from pathlib import Path
import tvm
from te_kernels.machine import describe, host_target
from te_kernels.task import TransformTask
from te_kernels.variant import from_knobs
from tvm_globalsel import measure
from tvm_globalsel.log import Context, TuningLog

measure._RUN_TIMEOUT_S = 15.0
target = host_target(1)
machine = describe(target, 1)
context = Context("llvm:test", "some CPU", 1, tvm.__version__)
task = TransformTask((1, 4, 4, 4), "NCHW", "NCHW")
names = ["test_correct", "test_wrong", "test_nan", "test_refuses_to_schedule", "test_crashes", "test_hangs",
         "test_greedy"]
requests = [measure.Request(task, from_knobs(name, {})) for name in names]
log = TuningLog(Path(sys.argv[1]))
measurer = measure.Measurer(target, machine, context)
first = measure.tune(requests, log, measurer, 300.0)
again = measure.tune(requests, TuningLog(Path(sys.argv[1])), measurer, 300.0)
measurer._builder = None  # once more, without a compiler
measurer._started = lambda: 1 / 0
once_more = []
measurer.measure(requests[:1], once_more.extend, log, again=True)
records = {r.variant.name: log.get(context.key(task, r.variant)) for r in requests}
print(json.dumps({
    "measured": [first.measured, again.measured, again.known],
    "scratch": [p.name for p in Path(tempfile.gettempdir()).glob(f"globalsel-tuning-{os.getpid()}-*/**/*.so")],
    "once_more": [[r.variant, r.error, len(r.costs_s)] for r in once_more],
    "errors": {name: record.error for name, record in records.items()},
    "finite": {name: record.cost_s < float("inf") for name, record in records.items()},
}))
"""


def test_every_way_to_fail_becomes_a_record(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "log.jsonl")],
        env={**__import__("os").environ, "GLOBALSEL_VARIANTS": "tests.globalsel.bad_variants"},
        capture_output=True, text=True, timeout=300, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["measured"] == [7, 0, 7]
    assert result["scratch"] == ["kernels.so"]  # of the one that ran
    assert result["once_more"] == [["test_correct", None, 5]]
    errors = result["errors"]
    assert errors["test_correct"] is None
    assert "wrong result: relative error 1" in errors["test_wrong"]
    assert "not finite" in errors["test_nan"]
    assert "no schedule for this on a Sunday" in errors["test_refuses_to_schedule"]
    assert "erminated" in errors["test_crashes"] or "exception" in errors["test_crashes"]
    assert "imeout" in errors["test_hangs"]
    assert errors["test_greedy"] is not None
    assert [name for name, finite in result["finite"].items() if finite] == ["test_correct"]


def _record(cost_s: float = 1e-3, shape: tuple[int, ...] = (1, 8, 4, 4)) -> object:
    task = TransformTask(shape, "NCHW", "NHWC")
    variant = _variant(task)
    return make_record(_CONTEXT, task, variant, costs_s=(cost_s, 3 * cost_s, 2 * cost_s), relative_error=0.0)


def _variant(task: TransformTask) -> object:
    from tvm_globalsel.candidates import candidates_for

    return candidates_for(task, describe(host_target(1), 1)).variants[0]


def test_log_round_trip_and_median(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    record = _record()
    TuningLog(path).append([record])
    again = TuningLog(path).get(record.key)
    assert again is not None
    assert again.cost_s == pytest.approx(2e-3)
    assert again.costs_s == record.costs_s


def test_corrupt_lines_are_reported_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = [_record(shape=(1, 8, 4, h)) for h in (4, 5, 6)]
    lines = [good[0].to_json(), "{not json", '{"v": 1}', good[1].to_json(), "", "[1, 2]",
             good[2].to_json().replace("0.001", '"__import__(\'os\')"'), "\x00\xff", good[2].to_json()]  # fmt: skip
    path.write_bytes("\n".join(lines).encode("latin-1") + b"\n")
    with pytest.warns(UserWarning, match=r"5 line\(s\) are not tuning records.*line 2, 3, 6, 7, 8.*other 3 records"):
        log = TuningLog(path)
    assert all(log.get(r.key) is not None for r in good)


def test_half_a_line_of_a_killed_writer_costs_one_record_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first, second = _record(shape=(1, 8, 4, 4)), _record(shape=(1, 8, 4, 5))
    path.write_text(first.to_json() + "\n" + second.to_json()[:50])
    with pytest.warns(UserWarning, match="1 line"):
        log = TuningLog(path)
    log.append([second])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = TuningLog(path)
    assert again.get(first.key) and again.get(second.key)


def test_failed_record_is_never_cheap() -> None:
    task = TransformTask((1, 8, 4, 4), "NCHW", "NHWC")
    record = make_record(_CONTEXT, task, _variant(task), costs_s=(1e-6,), error="wrong result")
    assert math.isinf(record.cost_s)


def test_other_threads_or_device_are_other_measurements() -> None:
    task = TransformTask((1, 8, 4, 4), "NCHW", "NHWC")
    variant = _variant(task)
    keys = {
        Context("llvm:a", "cpu", threads, tvm).key(task, variant)
        for threads in (1, 2)
        for tvm in ("0.27.0.post1", "0.28.0")
    }
    assert len(keys) == 4


def test_revision_covers_all_kernel_code_that_a_variant_imports() -> None:
    from tvm_globalsel.revision import _code_only, _kernel_imports, variant_revision

    imports = _kernel_imports("te_kernels.conv2d.direct_nhwc")
    for part in (
        "conv2d.direct_nhwc",
        "conv2d._direct",
        "conv2d._output_stationary",
        "epilogue",
        "layout",
        "vector_math",
    ):
        assert f"te_kernels.{part}" in imports
    assert "te_kernels.conv2d._winograd" not in imports
    assert variant_revision("direct_nhwc") != variant_revision("direct_nchwc")
    source = Path(__file__).parents[2] / "te_kernels/conv2d/_output_stationary.py"
    assert "A register tile holds" in source.read_text()  # its docstring
    assert "A register tile holds" not in _code_only(source)
