"""Measuring behind a real RPC tracker with two real servers on this machine, one of which dies in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from tests.globalsel import nets
from tests.globalsel.commands import ROOT, command
from tvm_globalsel.errors import UserError
from tvm_globalsel.remote import remote_devices
from tvm_globalsel.remote.tracker import Tracker

#: Measures behind the tracker: good and bad kernels, then, when a server has been killed, all the others.
_SCRIPT = """
import json, os, signal, sys
import tvm
from te_kernels.machine import describe, host_target
from te_kernels.task import ConvTask, TransformTask
from te_kernels.variant import from_knobs
from tvm_globalsel import measure
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.remote import remote_devices

measure._KERNELS_PER_BATCH = 3
target = host_target(1)
local = describe(target, 1)
devices = remote_devices(sys.argv[1], "box")
machine, name = devices.describe(local, target)
context = Context("llvm:test", name, 1, tvm.__version__)
measurer = measure.Measurer(target, machine, context, devices)
copy = TransformTask((1, 4, 4, 4), "NCHW", "NCHW")
bad = [measure.Request(copy, from_knobs(name, {})) for name in ("test_correct", "test_wrong", "test_crashes")]
conv = ConvTask(1, 16, 14, 14, 32, 3, 3)
good = [measure.Request(conv, v) for v in candidates_for(conv, machine).variants[:12]]
log = TuningLog(None)
first = measure.tune(bad, log, measurer, 300.0)
victim = int(sys.argv[2])

def progress(done, total, what):
    global victim
    if done and victim:
        os.killpg(victim, signal.SIGKILL)
        victim = 0

second = measure.tune(good, log, measurer, 300.0, progress)
records = [log.get(context.key(r.task, r.variant)) for r in (*bad, *good)]
print(json.dumps({
    "name": name, "same machine": machine == local, "killed": victim == 0,
    "measured": [first.measured, second.measured], "failed": [first.failed, second.failed],
    "errors": [r.error for r in records], "costs_s": [r.costs_s for r in records],
    "relative": [r.relative_error for r in records],
}))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def tracker() -> Iterator[tuple[int, list[subprocess.Popen[bytes]]]]:
    """(port, two servers) of a tracker and servers that have registered with the key ``box``."""
    pytest.importorskip("tornado", reason="TVM's tracker needs tornado")
    port = _free_port()
    place = ["--host", "127.0.0.1"]
    arguments = [["tvm.exec.rpc_tracker", *place, "--port", str(port), "--port-end", str(port + 1)]]
    for server_port in (_free_port(), _free_port()):
        ports = ["--port", str(server_port), "--port-end", str(server_port + 1)]
        arguments.append(["tvm.exec.rpc_server", *place, "--tracker", f"127.0.0.1:{port}", "--key", "box", *ports])
    processes = []
    try:
        for index, words in enumerate(arguments):
            processes.append(subprocess.Popen(
                [sys.executable, "-m", *words], start_new_session=True, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={**os.environ, "TVM_NUM_THREADS": "1"},
            ))  # fmt: skip
            _wait(port, servers=0 if index == 0 else None)
        _wait(port, servers=2)
        yield port, processes[1:]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(port: int, servers: int | None) -> None:
    deadline = time.monotonic() + 120
    while servers is not None:
        try:
            if Tracker("127.0.0.1", port, "box").servers() >= servers:
                return
        except UserError:
            pass
        assert time.monotonic() < deadline, "the tracker or a server did not start"
        time.sleep(0.2)


def test_two_servers_one_dies(tracker: tuple[int, list[subprocess.Popen[bytes]]]) -> None:
    port, servers = tracker
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, f"127.0.0.1:{port}", str(servers[0].pid)], cwd=ROOT, capture_output=True,
        text=True, timeout=500, check=False, env={**os.environ, "GLOBALSEL_VARIANTS": "tests.globalsel.bad_variants"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["name"].endswith("(RPC key box)") and result["same machine"] and result["killed"]
    assert result["measured"] == [3, 12] and result["failed"] == [2, 0]
    correct, wrong, crashed, *others = result["errors"]
    assert correct is None and "wrong result: relative error 1" in wrong and "signal 6" in crashed
    assert others == [None] * 12
    costs = result["costs_s"][3:]
    assert all(len(cost) == 5 and min(cost) > 0 and max(cost) < 1 for cost in costs)
    assert all(0 < error < 2e-5 for error in result["relative"][3:])

    os.killpg(servers[1].pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Tracker("127.0.0.1", port, "box").servers() and time.monotonic() < deadline:
        time.sleep(0.2)
    with pytest.raises(UserError, match="knows no device with key 'box'"):
        remote_devices(f"127.0.0.1:{port}", "box")


def test_no_tracker_no_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="HOST:PORT"):
        remote_devices("somewhere", "box")
    with pytest.raises(UserError, match="--rpc-key"):
        remote_devices("localhost:9190", None)
    with pytest.raises(UserError, match="without a tracker"):
        remote_devices(None, "box")
    port = _free_port()
    onnx.save(nets.tiny(), tmp_path / "t.onnx")
    done = command(
        "compile", tmp_path / "t.onnx", "-o", tmp_path, "--rpc-tracker", f"127.0.0.1:{port}", "--rpc-key", "box"
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"--rpc-tracker 127.0.0.1:{port}: no tracker answers" in done.stderr.splitlines()[-1]
