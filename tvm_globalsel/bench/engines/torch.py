"""PyTorch on the CPU: the ONNX graph as a module, compiled by torch.compile with frozen weights.

Where the compiler fails (it needs a C++ compiler), a frozen TorchScript trace runs instead.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

MODULES = ("torch", "onnx")  # onnx: the graph is translated whenever it is loaded


def prepare(model: Path, folder: Path, threads: int) -> None:
    """Compiled whenever it is loaded: torch.compile keeps no file that can be loaded by itself."""


class Session:
    """A compiled module; shapes are known only when it is fed, so that is when it is compiled."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch: Any = torch
        self._module = _graph_module().Graph(model)

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        from torch._inductor import config

        torch = self._torch
        self._inputs = tuple(torch.from_numpy(array) for array in inputs.values())
        config.freezing = True
        with torch.no_grad():
            try:
                self._function = torch.compile(self._module)
                self._function(*self._inputs)
            except Exception:  # whatever the compiler raises, there is the other one
                traced = torch.jit.freeze(torch.jit.trace(self._module, self._inputs))
                self._function = torch.jit.optimize_for_inference(traced)

    def run(self) -> list[np.ndarray]:
        with self._torch.no_grad():
            return [np.asarray(result.numpy()) for result in self._function(*self._inputs)]


def _graph_module() -> Any:
    """The interpreter beside this file, which is loaded by path as this file is."""
    path = Path(__file__).with_name("onnx_in_torch.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
