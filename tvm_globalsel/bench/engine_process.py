"""One engine in a process of its own: answers requests about one network until its input ends.

Run as a plain script by any interpreter that has numpy and the engine: ``engine_process.py ENGINE.py``. Requests and
answers are JSON lines:

{"prepare": model, "folder": .., "threads": n} -> {}
{"load": model, "folder": .., "threads": n, "inputs": x.npz} -> {"import_s": .., "load_s": ..}: from the file to ready
{"run": y.npz} -> {}: one inference, its outputs written there as "0", "1", ...
{"time": n, "warm": m} -> {"seconds": [..]} of n inferences after m unmeasured ones
{"memory": true} -> {"rss_bytes": ..}

A failure is {"error": ..}. Every answer has "waited", the part of its time that the process's threads were ready to
run but had no CPU, all of them together.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Answer requests until the input ends."""
    sys.path.pop(0)  # this script's folder: its modules must not hide an engine's
    engine = _module(Path(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints must not be taken for an answer
    host = Host(engine)
    for line in sys.stdin:
        started, waited = time.perf_counter(), waited_s()
        try:
            answer = host.answer(json.loads(line))
        except Exception as error:  # whatever an engine raises is the reason why it has no result
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
        answer["waited"] = (waited_s() - waited) / (time.perf_counter() - started)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Host:
    """Holds the engine's session between requests."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._session: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        if "prepare" in request:
            self._engine.prepare(Path(request["prepare"]), Path(request["folder"]), request["threads"])
            return {}
        if "load" in request:
            return self._load(request)
        if "run" in request:
            outputs = self._session.run()
            arrays = {str(i): np.asarray(output) for i, output in enumerate(outputs)}
            np.savez(request["run"], **arrays)  # type: ignore[arg-type]
            return {}
        if "time" in request:
            return {"seconds": self._time(request["time"], request["warm"])}
        return {"rss_bytes": rss_bytes()}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        os.environ.update(getattr(self._engine, "ENVIRONMENT", {}))
        with np.load(request["inputs"], allow_pickle=False) as file:
            inputs = {name: file[name] for name in file.files}
        started = time.perf_counter()
        for name in self._engine.MODULES:
            importlib.import_module(name)
        imported = time.perf_counter()
        self._session = self._engine.Session(Path(request["load"]), Path(request["folder"]), request["threads"])
        self._session.feed(inputs)
        return {"import_s": imported - started, "load_s": time.perf_counter() - imported}

    def _time(self, runs: int, warm: int) -> list[float]:
        run, seconds = self._session.run, []
        for _ in range(warm):
            run()
        for _ in range(runs):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds


def waited_s() -> float:
    """Seconds that this process's threads have spent waiting for a CPU (0 where the system does not say)."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return total * 1e-9


def rss_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"engine_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
