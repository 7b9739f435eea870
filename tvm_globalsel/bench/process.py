"""The side of the benchmark that talks to an engine's process (see ``engine_process.py``)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvm_globalsel.bench import engine_process
from tvm_globalsel.bench.catalogue import Hosted

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")
_SETTLING_S = 1.0
_ROOT = Path(__file__).parents[2]


class EngineError(Exception):
    """What an engine answered instead of a result, or that it died or hung."""


class EngineProcess:
    """A running engine. Use as a context manager, or call :meth:`close`."""

    def __init__(self, hosted: Hosted, threads: int, errors: Path | None = None) -> None:
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        if hosted.python == sys.executable:  # our own engine needs this package
            environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._errors = open(errors, "wb") if errors is not None else None  # noqa: SIM115
        self._process = subprocess.Popen(
            [hosted.python, str(Path(engine_process.__file__)), str(hosted.engine.file)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors or subprocess.DEVNULL,
        )  # fmt: skip
        self._pending = b""
        self._waited = 0.0

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """The answer to a request; raises :class:`EngineError`."""
        process = self._process
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise EngineError(f"its process died (exit code {process.poll()})") from error
        answer: dict[str, Any] = json.loads(self._line(time.monotonic() + timeout_s, timeout_s))
        if "error" in answer:
            raise EngineError(answer["error"])
        self._waited = answer["waited"]
        return answer

    def cpu_share(self) -> float:
        """1 less the share of the last answer's time in which the engine's threads waited for a CPU."""
        return 1.0 - self._waited

    def settle(self) -> None:
        """Wait until the engine's threads sleep: many pools' threads spin for a while, beside whatever runs next."""
        deadline = time.monotonic() + _SETTLING_S
        while time.monotonic() < deadline and any(self._running()):
            time.sleep(0.002)

    def _running(self) -> Iterator[bool]:
        for thread in Path(f"/proc/{self._process.pid}/task").glob("*/stat"):
            try:
                state = thread.read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):  # it ended
                continue
            yield state == "R"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was written to a dead process
                    continue

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _line(self, deadline: float, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._pending:
            ready = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise EngineError(f"no answer within {timeout_s:.0f} s")
            block = os.read(descriptor, 1 << 16)
            if not block:
                raise EngineError(f"its process died (exit code {self._process.wait()})")
            self._pending += block
        line, _, self._pending = self._pending.partition(b"\n")
        return line
