"""The process in which a bundle's kernels run: what crashes or hangs there takes nothing else along.

Parent and child exchange JSON. The child lives until a kernel brings it down, so that oracles, probes and the device's
context are made once and not for each library.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tvm_globalsel.bundle.compiler_free import prepare_imports

_START_TIMEOUT_S = 120.0


class Child:
    """Starts the process when it is first needed, and again after it has died."""

    def __init__(self, folder: Path, device: str, quiet: bool = True) -> None:
        self._folder, self._device, self._quiet = folder, device, quiet
        self._process: Any = None
        self._connection: Any = None

    def evaluate(self, file: str, spec: dict[str, Any], timeout_s: float) -> list[dict[str, Any]] | str:
        """Results of the kernels of one library (see ``worker.evaluate_kernels``), or why there are none."""
        if self._process is None:
            failure = self._start()
            if failure:
                return failure
        try:
            self._connection.send_bytes(json.dumps({"file": file, "spec": {**spec, "timeout_s": timeout_s}}).encode())
            if not self._connection.poll(timeout_s):
                self.stop()
                return f"timeout after {timeout_s:.0f} s"
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            self.stop()
            return f"crashed ({signal.Signals(-code).name})" if code and code < 0 else f"crashed (exit code {code})"
        if isinstance(answer, list):
            return answer
        self.stop()  # after an illegal access a GPU's context answers nothing but errors
        return str(answer)

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def device_name(self) -> str:
        """What the driver calls the device; raises RuntimeError when there is none."""
        failure = self._start() if self._process is None else ""
        if failure:
            raise RuntimeError(failure)
        return self._name

    def _start(self) -> str:
        """Start it; the empty string, or what went wrong."""
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=serve, args=(theirs, str(self._folder), self._device, self._quiet), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            if not self._connection.poll(_START_TIMEOUT_S):
                self.stop()
                return "the process that runs kernels did not start"
            hello = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self.stop()
            return "the process that runs kernels died when it started; --debug shows its messages"
        if "name" not in hello:
            self.stop()
            return str(hello.get("error"))
        self._name = str(hello["name"])
        return ""


def serve(connection: Connection, folder: str, device_kind: str, quiet: bool) -> None:
    """The child's main loop: a library and its kernels in, results out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    if quiet:  # a kernel that crashes makes TVM print a stack
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        prepare_imports()
        import tvm

        from tvm_globalsel.bundle.device import open_device

        device, name = open_device(device_kind)
        evaluate = _evaluator(device_kind)
    except Exception as error:
        connection.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    connection.send_bytes(json.dumps({"name": name}).encode())
    while True:
        try:
            job = json.loads(connection.recv_bytes())
        except EOFError:
            return
        answer: Any
        try:
            module = tvm.runtime.load_module(os.path.join(folder, job["file"]))
            answer = evaluate(module, device, job["spec"])
        except Exception as error:
            answer = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        connection.send_bytes(json.dumps(answer).encode())


def _evaluator(device_kind: str) -> Callable[[Any, Any, dict[str, Any]], list[dict[str, Any]]]:
    """What checks and times the kernels of a library on this kind of device."""
    if device_kind == "cuda":
        from tvm_globalsel.bundle import cuda_timing

        return cuda_timing.evaluate_kernels
    from te_kernels.machine import _cache_bytes
    from tvm_globalsel import worker

    caches = dict(zip(("l1_bytes", "l2_bytes", "l3_bytes"), _cache_bytes(), strict=True))
    return lambda module, device, spec: worker.evaluate_kernels(module, device, {**spec, "caches": caches})
