"""The log as shared data: whose records count, several writers, looking, merging, pruning, hostile lines."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
from pathlib import Path

import pytest
import tvm

from te_kernels.machine import describe, host_target
from te_kernels.task import TransformTask
from te_kernels.variant import all_variants
from tests.globalsel.commands import command
from tvm_globalsel import log_file, revision
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.cli import main
from tvm_globalsel.device import target_identity
from tvm_globalsel.errors import UserError
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.logs.edit import merge, prune
from tvm_globalsel.logs.records import count
from tvm_globalsel.logs.trust import consult
from tvm_globalsel.record import Record, make_record, parse

_HERE = Context("llvm -mcpu=a", "this CPU", 1, "0.27.0.post1")
_OTHER = dataclasses.replace(_HERE, device="other CPU", threads=2)
_VARIANT = candidates_for(TransformTask((1, 8, 4, 4), "NCHW", "NHWC"), describe(host_target(1), 1)).variants[0]


def _task(number: int) -> TransformTask:
    return TransformTask((1, 8, 4, 4 + number), "NCHW", "NHWC")


def _record(number: int = 0, context: Context = _HERE, cost_s: float = 1e-3, **changes: object) -> Record:
    record = make_record(context, _task(number), _VARIANT, costs_s=(cost_s, cost_s * 1.01), relative_error=0.0)
    return dataclasses.replace(record, **changes)


def _log(path: Path, *records: Record) -> Path:
    TuningLog(path).append(records)
    return path


def _stale(record: Record) -> Record:
    changed = parse(record.to_json().replace(record.revision, "0123456789ab").encode())
    assert changed is not None
    return changed


def test_target_identity_is_what_changes_code_and_nothing_else() -> None:
    def identity(**attributes: object) -> str:
        return target_identity(tvm.target.Target({"kind": "llvm", **attributes}))

    haswell = {"mcpu": "haswell", "mtriple": "x86_64-pc-linux-gnu"}
    plain = identity(**haswell)
    assert plain == "llvm -mtriple=x86_64-linux-gnu -mcpu=haswell"
    assert identity(**haswell, **{"num-cores": 8}) == plain
    assert identity(mcpu="haswell", mtriple="x86_64-conda-linux-gnu") == plain
    features = identity(**haswell, mattr=["+fma", "+avx2"])
    assert features == identity(**haswell, mattr=["+avx2", "+fma"]) == plain + " -mattr=+avx2,+fma"
    others = [identity(**haswell, **{"opt-level": 2}), identity(**{**haswell, "mcpu": "znver5"}),
              identity(**{**haswell, "mtriple": "aarch64-linux-gnu"})]  # fmt: skip
    assert len({plain, features, *others}) == 5


def test_records_of_elsewhere_are_used_only_when_trusted_and_it_is_said(tmp_path: Path) -> None:
    path = _log(tmp_path / "log", _record(0), _record(0, _OTHER, 5e-3), _record(1, _OTHER))
    said: list[str] = []
    log = TuningLog(path)
    consult(log, _HERE.origin, False, said.append)
    assert log.get(_HERE.key(_task(1), _VARIANT)) is None
    assert said == [f"log {path} holds 2 records of other CPU (llvm -mcpu=a), 2 threads, TVM 0.27.0.post1: "
                    "not used; --trust-log uses them"]  # fmt: skip
    consult(log, _HERE.origin, True, said.append)
    assert "used where this machine has none of its own" in said[1]
    assert log.get(_HERE.key(_task(1), _VARIANT)) is not None
    mine = log.get(_HERE.key(_task(0), _VARIANT))
    assert mine is not None and mine.origin == _HERE.origin
    consult(TuningLog(path), _OTHER.origin, False, said.append)
    assert "1 records of this CPU" in said[2] and len(said) == 3


def test_the_nearest_origin_is_trusted_first(tmp_path: Path) -> None:
    near = dataclasses.replace(_HERE, threads=2)
    for order in (
        (_record(0, near, 2e-3), _record(0, _OTHER, 9e-3)),
        (_record(0, _OTHER, 9e-3), _record(0, near, 2e-3)),
    ):
        log = TuningLog(None)
        log.append(order)
        log.trust(_HERE.origin)
        found = log.get(_HERE.key(_task(0), _VARIANT))
        assert found is not None and found.origin == near.origin
    old = TuningLog(None)
    old.append([_stale(_record(0, near))])
    old.trust(_HERE.origin)
    assert old.get(_HERE.key(_task(0), _VARIANT)) is None  # trust in a machine is none in code that has changed


def test_compile_says_whose_records_it_leaves_alone(tiny: tuple[Path, Path], log: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        line["context"]["device"] = "some other CPU"
    foreign.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # no time for measuring: without trust in the log there would be no plan, and kernels would be measured all the same
    done = command("compile", tiny[0], "-o", tmp_path / "o", "--tuning-log", foreign, "--trust-log", "--budget", 0)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())  # where lines break depends on the processor's name
    assert "records of some other CPU" in said and "used where this machine has none" in said
    assert "measured 0 kernels" in done.stdout
    assert len(foreign.read_text().splitlines()) == len(lines)


def _append_many(path: Path, first: int) -> None:
    log = TuningLog(path)
    order = random.Random(first)
    for batch in range(25):
        log.append([_record(first + 4 * batch + i, error="x" * order.randrange(20000)) for i in range(4)])


def test_many_writers_lose_and_mix_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_append_many, args=(path, 1000 * n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    reading = log_file.read_file(path)
    assert reading.bad == [] and reading.lines == len(reading.records) == 400
    assert len(TuningLog(path)) == 400


def test_refresh_reads_what_others_appended_and_survives_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    mine, other = TuningLog(path), TuningLog(path)
    other.append([_record(1)])
    assert mine.get(_record(1).key) is None
    mine.refresh()
    assert mine.get(_record(1).key) is not None
    mine.append([_record(2)])
    other.append([_record(3), _stale(_record(4))])
    assert other.get(_record(2).key) is not None  # read while the lock was held
    assert prune(path).dropped == {"old revision": 1}  # another file now
    mine.append([_record(5)])
    other.refresh()
    assert {r.key for r in other} >= {_record(n).key for n in (1, 2, 3, 5)}
    assert len(log_file.read_file(path).records) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda b: {**b, "costs_s": [-1.0]}, lambda b: {**b, "costs_s": ["nan"]},
        lambda b: {**b, "relative_error": "inf"},
        lambda b: {**b, "context": {**b["context"], "threads": "1; rm"}}, lambda b: {**b, "v": 99},
        lambda b: {**b, "context": {**b["context"], "device": ["x"]}}, lambda b: {**b, "time": "nan"},
        lambda b: {**b, "context": {**b["context"], "extra": 1}}, lambda b: [b], lambda b: {**b, "knobs": 3},
    ],
)  # fmt: skip
def test_hostile_lines_are_no_records(change: object) -> None:
    body = json.loads(_record().to_json())
    assert parse(json.dumps(body).encode()) is not None
    assert parse(json.dumps(change(body)).encode()) is None  # type: ignore[operator]


def test_a_line_without_end_is_passed_over_and_a_huge_file_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(_record(0).to_json().encode() + b"\n" + b"[" * (3 << 20) + b"\n" + _record(1).to_json().encode())
    reading = log_file.read_file(path)
    assert reading.bad == [2] and len(reading.records) == 2
    monkeypatch.setattr(log_file, "_MAX_FILE_BYTES", 1000)
    with pytest.raises(UserError, match="larger than"):
        TuningLog(path)


def test_merge_keeps_the_newest_or_the_most_precise(tmp_path: Path) -> None:
    precise = _record(0, costs_s=(1e-3, 1.001e-3, 1e-3), time=1.0)
    newest = _record(0, costs_s=(1e-3, 2e-3, 3e-3), time=2.0)
    failed = _record(0, costs_s=(), error="crashed", time=3.0)
    a, b = _log(tmp_path / "a", newest, _record(1)), _log(tmp_path / "b", precise, _record(2))
    c = _log(tmp_path / "c", failed)
    assert merge([a, b], tmp_path / "new").written == 3
    assert TuningLog(tmp_path / "new").get(newest.key) == newest
    merge([a, b, c], tmp_path / "best", "precise")
    assert TuningLog(tmp_path / "best").get(newest.key) == precise
    with pytest.raises(UserError, match="exists"):
        merge([a], b)
    assert merge([a, b], b).read == {a: 2, b: 2}
    assert len(TuningLog(b)) == 3
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_prune_drops_what_is_asked_and_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dataclasses.replace(_record(7), variant="gone")
    records = [_record(0), _record(0), _stale(_record(1)), _record(2, _OTHER), _record(3, error="crashed"), unknown]
    path = _log(tmp_path / "log", *records)
    path.write_text(path.read_text() + "junk\n")
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UserError, match="No space left"):
            prune(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["log"]
    dropped = prune(path).dropped
    assert dropped == {"damaged line": 1, "repeated": 1, "old revision": 1, "unknown variant": 1}
    assert {r.key for r in TuningLog(path)} == {records[0].key, records[3].key, records[4].key}
    assert prune(path, errors=True, device="this CPU").dropped == {"failed": 1, "other device": 1}
    assert [r.key for r in TuningLog(path)] == [records[0].key]


def test_stats_count_by_origin(tmp_path: Path) -> None:
    counts = count([_record(0), _record(0), _stale(_record(1)), _record(2, error="x"), _record(3, _OTHER)])
    assert [(c.origin.device, c.records, c.errors, c.current) for c in counts] == [
        ("this CPU", 3, 1, 2), ("other CPU", 1, 0, 1)
    ]  # fmt: skip


def test_log_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def log(*args: object) -> tuple[int, str, str]:
        code = main(["log", *map(str, args)])
        return code, *capsys.readouterr()

    evil = _record(1, dataclasses.replace(_HERE, device="\x1b]0;owned\x07[red]CPU"), error="\x1b[2J[b]bad")
    path = _log(tmp_path / "log", _record(0))
    path.write_text(path.read_text() + evil.to_json() + "\njunk\n")
    code, out, err = log("show", path)
    assert code == 0 and "1 line(s) are not tuning records" in err
    assert "\x1b" not in out and "\x07" not in out and "[b]bad" in out
    assert "transform" in out and "1.0050" in out
    (only,) = json.loads(log("show", "--errors", "--json", path)[1])
    assert only["error"] == "\x1b[2J[b]bad"
    assert json.loads(log("show", "--kind", "conv2d", "--json", path)[1]) == []
    assert "this CPU" in log("stats", path)[1]
    assert "2 records, merged from 2 in 1 logs" in log("merge", path, "-o", tmp_path / "new")[1]
    assert "0 records kept, 3 dropped (1 damaged line, 2 other device)" in log("prune", path, "--other-devices")[1]
    code, _, err = log("stats", tmp_path / "no")
    assert code == 2 and "cannot read the tuning log" in err


def test_what_only_proposes_knobs_is_no_part_of_a_revision() -> None:
    for name in ("winograd_nhwc", "direct_nhwc", "im2col_gemm"):
        modules = revision._kernel_imports(all_variants()[name].__module__)
        assert len(modules) > 3 and not any(module.endswith("_model") for module in modules)
