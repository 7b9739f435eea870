"""OpenVINO's CPU plugin: float32 inference, one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

MODULES = ("openvino",)


def prepare(model: Path, folder: Path, threads: int) -> None:
    """Reads ONNX itself."""


class Session:
    """A compiled model and its inference request."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        import openvino

        self._openvino: Any = openvino
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = openvino.Core().compile_model(str(model), "CPU", options)
        self._request = self._compiled.create_infer_request()

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self._inputs = [self._openvino.Tensor(inputs[port.get_any_name()]) for port in self._compiled.inputs]

    def run(self) -> list[np.ndarray]:
        result = self._request.infer(self._inputs, share_outputs=True)
        return [np.asarray(result[port]) for port in self._compiled.outputs]
