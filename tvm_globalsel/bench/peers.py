"""Other engines, each in its own process, so that their thread pools and ours do not meet."""

from __future__ import annotations

import json
import os
import select
import subprocess
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from te_kernels import check
from te_kernels.task import ConvTask
from tvm_globalsel.bench import peer_process
from tvm_globalsel.bench.layers import one_layer_model
from tvm_globalsel.errors import UserError

_BLOCK_S = 10e-3
_MODULES = {"torch-nhwc": "torch", "mnn": "MNN"}
_TOLERANCE = 1e-3
_TIMEOUT_S = 120.0


def installed(pythons: list[str]) -> list[tuple[str, str]]:
    """(engine, interpreter) of every engine that one of the interpreters can import; the first that can is used."""
    found: dict[str, str] = {}
    for python in pythons:
        names = {engine: _MODULES.get(engine, engine) for engine in peer_process.ENGINES if engine not in found}
        code = f"import importlib.util as u; print([e for e, m in {names!r}.items() if u.find_spec(m)])"
        try:
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f"--peer-python {python}: cannot be run ({error})", "give a Python interpreter") from error
        found.update(dict.fromkeys(json.loads(done.stdout.replace("'", '"')), python))
    return list(found.items())


class Peer:
    """An engine's process. Failures are kept as ``error`` and make the peer sit out until the next layer."""

    def __init__(self, engine: str, python: str) -> None:
        self.engine = engine
        self._python = python
        self._process: subprocess.Popen[str] | None = None
        self.error: str | None = None
        self._cpu_share = 1.0
        self._runs = 4

    def load(self, folder: Path) -> None:
        """Load the layer whose files :func:`write_layer` put into ``folder``."""
        self.error = None
        answer = self._ask({"load": str(folder)})
        if self.error is None and not answer["relative_error"] <= _TOLERANCE:
            self.error = f"wrong result: relative error {answer['relative_error']:.1e}"
        if self.error is None:
            self._runs = max(4, min(300, int(_BLOCK_S / max(1e-6, self.call_s()))))

    def call_s(self) -> float:
        """Seconds of a whole call, inputs and outputs in the engine's own order (median of one block)."""
        return self._median({"call": self._runs})

    def kernel_s(self) -> float:
        """Seconds of the convolution alone by the engine's own profiler; infinite when it has none."""
        return self._median({"kernel": self._runs})

    def last_cpu_share(self) -> float:
        """Which part of the time of its last answer the engine's process had the CPU."""
        return self._cpu_share

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _median(self, request: dict[str, Any]) -> float:
        seconds = self._ask(request).get("seconds", [])
        return median(seconds) if seconds else float("inf")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                [self._python, str(Path(peer_process.__file__)), self.engine], text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready = select.select([process.stdout], [], [], _TIMEOUT_S)[0]
            line = process.stdout.readline() if ready else ""
        except OSError:
            line = ""
        if not line:
            self.error = "its process died or hung"
            self.close()
            return {}
        answer: dict[str, Any] = json.loads(line)
        self.error = answer.get("error", self.error)
        self._cpu_share = answer["cpu_share"]
        return answer


def write_layer(case: check.Case, folder: Path) -> None:
    """The layer, its data and its expected result, as files for :mod:`peer_process`."""
    task = case.task
    assert isinstance(task, ConvTask)
    weight, bias = (np.ascontiguousarray(p, np.float32) for p in case.params)
    onnx.save(one_layer_model(task, weight, bias), str(folder / "model.onnx"))
    arrays = {"weight": weight, "bias": bias, "x": case.inputs[0], "expected": case.expected.astype(np.float32)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    facts = asdict(task)
    (folder / "layer.json").write_text(json.dumps({key: facts[key] for key in ("pad", "stride", "dilation", "groups")}))
