"""TVM by itself: its ONNX importer and its default pipeline for the CPU, without tuning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

MODULES = ("tvm",)
CONVERTERS = ("onnx",)
ENVIRONMENT = {"TVM_USE_RUNTIME_LIB": "1"}  # to load it; preparing takes the compiler


def prepare(model: Path, folder: Path, threads: int) -> None:
    """``net.so`` by the default pipeline of ``tvm.compile``."""
    import onnx
    import tvm
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.target import codegen

    target = tvm.target.Target(
        {"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu(), "mtriple": codegen.llvm_get_system_triple(),
         "num-cores": threads}
    )  # fmt: skip
    tvm.compile(from_onnx(onnx.load(str(model))), target=target).export_library(str(folder / "net.so"))


class Session:
    """A virtual machine; TVM's runtime library only."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
        import tvm
        from tvm.runtime.vm import VirtualMachine

        self._tvm: Any = tvm
        self._vm = VirtualMachine(tvm.runtime.load_module(str(folder / "net.so")), tvm.cpu())

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self._inputs = [self._tvm.runtime.tensor(array) for array in inputs.values()]

    def run(self) -> list[np.ndarray]:
        result = self._vm["main"](*self._inputs)
        return [np.asarray(r.numpy()) for r in ([result] if hasattr(result, "numpy") else list(result))]
