"""ncnn, converted by pnnx; float32 storage and arithmetic, Winograd and packed layouts as it chooses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

MODULES = ("ncnn",)
CONVERTERS = ("pnnx", "onnx")


def prepare(model: Path, folder: Path, threads: int) -> None:
    """``net.param`` and ``net.bin``; the batch must be 1, ncnn knows no other."""
    import onnx
    import pnnx

    graph = onnx.load(str(model), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    shapes = [
        [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input if value.name not in constants
    ]
    if any(shape[0] != 1 for shape in shapes if shape):
        raise ValueError(f"ncnn runs single images only, the inputs are {shapes}")
    local = folder / "net.onnx"  # pnnx writes its files beside the model
    shutil.copyfile(model, local)
    written = {name: folder / f"net.{name}" for name in ("param", "bin")}
    command = [
        str(pnnx.EXEC_PATH), str(local), "fp16=0", "inputshape=" + ",".join(f"{s}f32".replace(" ", "") for s in shapes),
        f"ncnnparam={written['param']}", f"ncnnbin={written['bin']}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    for path in folder.iterdir():
        if path not in written.values():
            path.unlink()
    # a full disk leaves empty files and no error
    if done.returncode or not all(path.exists() and path.stat().st_size for path in written.values()):
        raise RuntimeError(f"pnnx failed: {(done.stderr or done.stdout).strip()[-200:] or 'it wrote nothing'}")


class Session:
    """A network; every run has a new extractor, as ncnn wants it."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        import ncnn

        self._ncnn = ncnn
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        self._pools = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        options.blob_allocator, options.workspace_allocator = self._pools
        if self._net.load_param(str(folder / "net.param")) or self._net.load_model(str(folder / "net.bin")):
            raise RuntimeError("ncnn refuses the converted network")

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        # pnnx names inputs in0, in1, ... in the model's order; an ncnn.Mat has no batch axis
        self._inputs = {f"in{i}": self._ncnn.Mat(array[0]).clone() for i, array in enumerate(inputs.values())}

    def run(self) -> list[np.ndarray]:
        extractor = self._net.create_extractor()
        for name, mat in self._inputs.items():
            extractor.input(name, mat)
        outputs = []
        for i in range(len(self._net.output_names())):
            code, mat = extractor.extract(f"out{i}")
            if code:
                raise RuntimeError(f"ncnn failed with code {code}")
            outputs.append(np.array(mat)[None])
        return outputs
