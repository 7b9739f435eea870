"""MNN's CPU backend at high precision (float32), converted by its own converter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODULES = ("MNN",)
_HIGH = "high"


def prepare(model: Path, folder: Path, threads: int) -> None:
    """``net.mnn``."""
    code = "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"  # MNN's own script reports its use over the network
    options = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(folder / "net.mnn"), "--bizCode", "bench"]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=False)
    if not (folder / "net.mnn").exists():
        raise RuntimeError(f"MNNConvert failed: {(done.stderr or done.stdout).strip()[-200:]}")


class Session:
    """An interpreter with one CPU session."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        import MNN

        self._mnn: Any = MNN
        self._interpreter = MNN.Interpreter(str(folder / "net.mnn"))
        configuration = {"backend": "CPU", "precision": _HIGH, "numThread": threads}
        self._session = self._interpreter.createSession(configuration)

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        tensors = self._interpreter.getSessionInputAll(self._session)
        for name, array in inputs.items():
            tensors[name].copyFrom(self._host(array.shape, np.ascontiguousarray(array)))
        self._outputs = self._interpreter.getSessionOutputAll(self._session)

    def run(self) -> list[np.ndarray]:
        self._interpreter.runSession(self._session)
        results = []
        for tensor in self._outputs.values():
            shape = tensor.getShape()
            host = self._host(shape, np.empty(shape, np.float32))
            tensor.copyToHostTensor(host)
            results.append(np.array(host.getNumpyData(), np.float32).reshape(shape))
        return results

    def _host(self, shape: tuple[int, ...], data: np.ndarray) -> Any:
        """A tensor of MNN in NCHW order; its own order is another one."""
        return self._mnn.Tensor(shape, self._mnn.Halide_Type_Float, data, self._mnn.Tensor_DimensionType_Caffe)
