"""ONNX Runtime's CPU provider with all graph optimisations, as it comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

MODULES = ("onnxruntime",)


def prepare(model: Path, folder: Path, threads: int) -> None:
    """Reads ONNX itself."""


class Session:
    """An inference session."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self._inputs = inputs

    def run(self) -> list[np.ndarray]:
        return list(self._session.run(None, self._inputs))
