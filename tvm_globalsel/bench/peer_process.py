"""One other engine in a process of its own: loads one-layer models and times them on request.

Run as a plain script by any interpreter that has numpy and the engine; imports nothing else. Requests and answers are
JSON lines: {"load": folder} -> {"error": ..} or {"relative_error": ..}; {"call": n} -> {"seconds": [..]} of n whole
calls; {"kernel": n} -> {"seconds": [..]} of n convolutions by the engine's own profiler, or {"seconds": []}. Half as
many runs precede them unmeasured: after a pause, engines need several to find caches and memory pools warm. Every
answer has "cpu_share", the part of its time during which the process had the CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np


class OnnxRuntime:
    """NCHW in and out; profiler: duration of the Conv node, reorders excluded."""

    def __init__(self, folder: Path, x: np.ndarray, layer: dict[str, Any]) -> None:
        import onnxruntime

        self._runtime, self._model, self._x = onnxruntime, str(folder / "model.onnx"), x
        self._session = self._new(None)

    def _new(self, profile: str | None) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, profile
        return self._runtime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])

    def __call__(self) -> np.ndarray:
        return np.asarray(self._session.run(None, {"x": self._x})[0])

    def kernel(self, runs: int) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            session = self._new(str(Path(folder) / "profile"))
            for _ in range(runs + runs // 2 + 2):
                session.run(None, {"x": self._x})
            events = json.loads(Path(session.end_profiling()).read_text())
        durations = [
            event["dur"] * 1e-6
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
            and "Conv" in event.get("args", {}).get("op_name", "")
        ]  # fmt: skip
        return durations[runs // 2 + 2 :]


class OpenVino:
    """NCHW in and out, float32 inference; profiler: real time of the Convolution node, reorders excluded."""

    def __init__(self, folder: Path, x: np.ndarray, layer: dict[str, Any]) -> None:
        import openvino

        self._x = openvino.Tensor(x)
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        model = openvino.Core().read_model(str(folder / "model.onnx"))
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        counting = openvino.Core().compile_model(model, "CPU", {**options, "PERF_COUNT": True})
        self._counting = counting.create_infer_request()

    def __call__(self) -> np.ndarray:
        return np.asarray(self._request.infer([self._x])[0])

    def kernel(self, runs: int) -> list[float]:
        seconds = []
        for _ in range(runs + runs // 2 + 2):
            self._counting.infer([self._x])
            nodes = [n for n in self._counting.get_profiling_info() if "Convolution" in n.node_type]
            seconds.append(sum(n.real_time.total_seconds() for n in nodes))
        return seconds[runs // 2 + 2 :] if min(seconds) > 0 else []


class Torch:
    """Frozen TorchScript, weights packed for oneDNN; NCHW in and out."""

    memory_format = "contiguous_format"

    def __init__(self, folder: Path, x: np.ndarray, layer: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        self._torch, order = torch, getattr(torch, self.memory_format)
        top, left, bottom, right = layer["pad"]
        if (top, left) != (bottom, right):
            raise ValueError("uneven padding")
        weight = torch.from_numpy(np.load(folder / "weight.npy"))
        conv = torch.nn.Conv2d(
            weight.shape[1] * layer["groups"], weight.shape[0], tuple(weight.shape[2:]), layer["stride"], (top, left),
            layer["dilation"], layer["groups"],
        )  # fmt: skip
        conv.weight.data, conv.bias.data = weight, torch.from_numpy(np.load(folder / "bias.npy"))
        conv = conv.eval().to(memory_format=order)
        self._x = torch.from_numpy(x).to(memory_format=order)
        with torch.no_grad():
            self._function = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(conv, self._x)))
            for _ in range(3):
                self._function(self._x)

    def __call__(self) -> np.ndarray:
        with self._torch.inference_mode():
            return np.asarray(self._function(self._x).numpy())

    def kernel(self, runs: int) -> list[float]:
        return []


class TorchChannelsLast(Torch):
    """The same on NHWC data, which oneDNN reads without a reorder."""

    memory_format = "channels_last"


class Ncnn:
    """Its own text format, Winograd and packed layouts allowed; NCHW in and out."""

    def __init__(self, folder: Path, x: np.ndarray, layer: dict[str, Any]) -> None:
        import ncnn

        self._ncnn = ncnn
        weight, bias = np.load(folder / "weight.npy"), np.load(folder / "bias.npy")
        top, left, bottom, right = layer["pad"]
        (sh, sw), (dh, dw) = layer["stride"], layer["dilation"]
        kind = "Convolution" if layer["groups"] == 1 else "ConvolutionDepthWise"
        text = (
            f"7767517\n2 2\nInput in0 0 1 in0\n{kind} conv 1 1 in0 out0 0={weight.shape[0]} 1={weight.shape[3]} "
            f"11={weight.shape[2]} 2={dw} 12={dh} 3={sw} 13={sh} 4={left} 14={top} 15={right} 16={bottom} 5=1 "
            f"6={weight.size}" + (f" 7={layer['groups']}" if layer["groups"] > 1 else "") + "\n"
        )
        (folder / "ncnn.param").write_text(text)
        (folder / "ncnn.bin").write_bytes(b"\0\0\0\0" + weight.tobytes() + bias.tobytes())
        self._net = ncnn.Net()
        self._net.opt.num_threads = 1
        self._net.opt.use_fp16_packed = self._net.opt.use_fp16_storage = self._net.opt.use_fp16_arithmetic = False
        self._net.opt.use_bf16_storage = False
        self._pools = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        self._net.opt.blob_allocator, self._net.opt.workspace_allocator = self._pools
        if self._net.load_param(str(folder / "ncnn.param")) or self._net.load_model(str(folder / "ncnn.bin")):
            raise RuntimeError("ncnn refuses the layer")
        self._x = ncnn.Mat(x[0]).clone()

    def __call__(self) -> np.ndarray:
        extractor = self._net.create_extractor()
        extractor.input("in0", self._x)
        _, out = extractor.extract("out0")
        return np.array(out)[None]

    def kernel(self, runs: int) -> list[float]:
        return []


class Mnn:
    """Converted by its own converter, high precision (float32); NCHW in and out, packed outside of its session."""

    def __init__(self, folder: Path, x: np.ndarray, layer: dict[str, Any]) -> None:
        import MNN

        code = "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"  # its own script reports its use over the network
        files = ["--modelFile", str(folder / "model.onnx"), "--MNNModel", str(folder / "net.mnn")]
        subprocess.run([sys.executable, "-c", code, "-f", "ONNX", *files, "--bizCode", "bench"], check=True)
        self._interpreter = MNN.Interpreter(str(folder / "net.mnn"))
        options = {"backend": "CPU", "precision": "high", "numThread": 1}
        self._session = self._interpreter.createSession(options)
        order = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe
        tensor = self._interpreter.getSessionInput(self._session)
        tensor.copyFrom(MNN.Tensor(x.shape, order[0], np.ascontiguousarray(x), order[1]))
        self._out = self._interpreter.getSessionOutput(self._session)
        shape = self._out.getShape()
        self._host = MNN.Tensor(shape, order[0], np.empty(shape, np.float32), order[1])

    def __call__(self) -> np.ndarray:
        self._interpreter.runSession(self._session)
        self._out.copyToHostTensor(self._host)
        return np.array(self._host.getNumpyData(), np.float32).reshape(self._out.getShape())

    def kernel(self, runs: int) -> list[float]:
        seconds = []
        for _ in range(runs + runs // 2 + 2):
            start = time.perf_counter()
            self._interpreter.runSession(self._session)
            seconds.append(time.perf_counter() - start)
        return seconds[runs // 2 + 2 :]


ENGINES = {
    "onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch": Torch, "torch-nhwc": TorchChannelsLast, "ncnn": Ncnn,
    "mnn": Mnn,
}  # fmt: skip


def main() -> None:
    """Answer requests until the input ends."""
    engine: Any = None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints must not be taken for an answer
    for line in sys.stdin:
        request = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        answer: dict[str, Any]
        try:
            if "load" in request:
                folder = Path(request["load"])
                x, expected = np.load(folder / "x.npy"), np.load(folder / "expected.npy")
                engine = ENGINES[sys.argv[1]](folder, x, json.loads((folder / "layer.json").read_text()))
                got = engine()
                answer = {"relative_error": float(np.abs(got - expected).max() / np.abs(expected).max())}
                for _ in range(3):
                    engine()
            elif "call" in request:
                seconds = []
                for _ in range(request["call"] // 2 + 2):
                    engine()
                for _ in range(request["call"]):
                    start = time.perf_counter()
                    engine()
                    seconds.append(time.perf_counter() - start)
                answer = {"seconds": seconds}
            else:
                answer = {"seconds": engine.kernel(request["kernel"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answer["cpu_share"] = (time.process_time() - cpu) / (time.perf_counter() - wall)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
