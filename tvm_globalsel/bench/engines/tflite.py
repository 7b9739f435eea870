"""LiteRT (TensorFlow Lite) with XNNPACK, float32; converted by onnx2tf, which writes the file without TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODULES = ("ai_edge_litert.interpreter",)
CONVERTERS = ("onnx2tf",)


def prepare(model: Path, folder: Path, threads: int) -> None:
    """``net.tflite``, activations in NHWC."""
    code = "from onnx2tf import main; main()"
    written = folder / "onnx2tf"
    done = subprocess.run(
        [sys.executable, "-c", code, "-i", str(model), "-o", str(written), "-tb", "flatbuffer_direct", "-n"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = sorted(written.glob("*_float32.tflite")) if written.exists() else []
    if not found:
        raise RuntimeError(f"onnx2tf failed: {(done.stderr or done.stdout).strip()[-200:]}")
    os.replace(found[0], folder / "net.tflite")
    for path in written.iterdir():
        path.unlink()
    written.rmdir()


class Session:
    """An interpreter; the XNNPACK delegate is its default."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(str(folder / "net.tflite"), num_threads=threads)
        self._interpreter.allocate_tensors()

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        details = self._interpreter.get_input_details()
        for detail, array in zip(_in_order(details, list(inputs)), inputs.values(), strict=True):
            shape = tuple(int(size) for size in detail["shape"])
            if array.ndim == 4 and shape != array.shape:
                array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            self._interpreter.set_tensor(detail["index"], array)
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def run(self) -> list[np.ndarray]:
        self._interpreter.invoke()
        results = [self._interpreter.get_tensor(index) for index in self._outputs]
        return [r.transpose(0, 3, 1, 2) if r.ndim == 4 else r for r in results]


def _in_order(details: list[Any], names: list[str]) -> list[Any]:
    """The converter may rename and reorder inputs; by name where every name is found, else as they come."""
    by_name = {name: d for name in names for d in details if name.replace("/", "_") in d["name"].replace("/", "_")}
    return [by_name[name] for name in names] if len(by_name) == len(names) else details
