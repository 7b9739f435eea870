"""Tuners that are killed, interrupted, or at work on one log together."""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from tvm.support.popen_pool import PopenWorker

from tests.globalsel.commands import ROOT
from tvm_globalsel import background, worker_process
from tvm_globalsel.log_file import read_file
from tvm_globalsel.turn import Turn

#: Tunes 24 kernels (three batches) into the log given; says what it did.
_TUNER = """
import json, sys
from pathlib import Path
import tvm
from te_kernels.machine import describe, host_target
from te_kernels.task import TransformTask
from tvm_globalsel import measure
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.log import Context, TuningLog

measure._KERNELS_PER_BATCH = 4
target = host_target(1)
machine = describe(target, 1)
context = Context("llvm:test", "some CPU", 1, tvm.__version__)
tasks = [TransformTask((1, 16, 4, n), "NCHW", "NHWC") for n in range(4, 28)]
requests = [measure.Request(task, candidates_for(task, machine).variants[0]) for task in tasks]
tuning = measure.tune(requests, TuningLog(Path(sys.argv[1])), measure.Measurer(target, machine, context), 300.0)
print(json.dumps([tuning.measured, tuning.known, tuning.failed, tuning.skipped]))
"""
_KERNELS = 24


def _tuner(log: Path, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _TUNER, str(log)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(temporary)}, start_new_session=True,
    )  # fmt: skip


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_killed_tuner_loses_only_what_was_in_flight_and_two_share_the_rest(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    killed = _tuner(log, tmp_path)
    deadline = time.monotonic() + 200
    while not _lines(log):
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    before = read_file(log)
    assert before.bad == [] and 0 < len(before.records) < _KERNELS

    pair = [_tuner(log, tmp_path), _tuner(log, tmp_path)]
    done = [tuner.communicate(timeout=300) for tuner in pair]
    for tuner, (_, stderr) in zip(pair, done, strict=True):
        assert tuner.returncode == 0, stderr[-2000:]
    counts = [json.loads(stdout.splitlines()[-1]) for stdout, _ in done]
    assert all(
        measured + known == _KERNELS and not failed and not skipped for measured, known, failed, skipped in counts
    )
    assert sum(measured for measured, *_ in counts) == _KERNELS - len(before.records)

    after = read_file(log)
    assert after.bad == [] and len({r.key for r in after.records}) == len(after.records) == _KERNELS
    assert after.records[: len(before.records)] == before.records
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith("globalsel-tuning-")]
    assert left == []  # the next tuner cleans up after the one that was killed


def test_interrupt_ends_the_workers_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    own = subprocess.Popen(["sleep", "100"])
    before = {child.pid for child in psutil.Process().children()}
    worker = PopenWorker()
    seen = []

    def work() -> None:
        worker.send(time.sleep, (100,))
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(ChildProcessError):
            worker.recv()
        seen.append(background.stopping())

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a test run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            background.run_interruptible(work)
        assert seen == [True]
        assert own.poll() is None
        assert {child.pid for child in psutil.Process().children()} <= before
        assert background.run_interruptible(lambda: background.stopping()) is False
    finally:
        signal.signal(signal.SIGINT, handler)
        worker.kill()
        own.kill()
        own.wait()


def test_scratch_of_the_dead_is_removed_and_of_the_living_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (gone.pid, os.getpid(), 1):
        (tmp_path / f"globalsel-tuning-{pid}-x").mkdir()
    folder = background.scratch_folder()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [f"globalsel-tuning-{os.getpid()}-x", "globalsel-tuning-1-x", folder.name]
    )
    background._remove_scratch()
    assert not folder.exists()


def _worker(scratch: Path, answer: Path) -> None:
    worker_process.start(str(scratch))
    try:
        mmap.mmap(-1, int(0.97 * worker_process.free_bytes()), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        answer.write_text(f"{error.strerror} {tempfile.mkdtemp()}")


def test_workers_may_not_take_all_memory(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_worker, args=(tmp_path, tmp_path / "answer"))
    process.start()
    process.join(60)
    assert (tmp_path / "answer").read_text().startswith(f"Cannot allocate memory {tmp_path}")


def _hold(log: Path, path: Path) -> None:
    with Turn(log).taken():
        path.write_text("held")
        time.sleep(100)


def test_a_turn_ends_with_its_process(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path / "log", tmp_path / "held"))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    taken = threading.Event()

    def take() -> None:
        turn = Turn(tmp_path / "log")
        with turn.taken(), turn.taken():
            taken.set()

    waiting = threading.Thread(target=take, daemon=True)
    waiting.start()
    with Turn(tmp_path / "another log").taken():
        assert not taken.wait(0.5)
    holder.kill()
    assert taken.wait(30)
    waiting.join()
    holder.join()
