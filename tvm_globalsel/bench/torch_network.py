"""A whole network in PyTorch, whose convolutions and dense layers run in oneDNN: the peer of our plans.

Run as a plain script by any interpreter that has numpy and torch; imports nothing else. The folder holds
``network.json`` (operators of an ONNX graph, in order), ``weights.npz``, ``x.npy`` and ``expected.npy``, as
:func:`tvm_globalsel.bench.network_files.write` makes them. Prints a JSON object: seconds of each run, versions, error.

The fastest of four ways counts: in NCHW and in NHWC, eagerly and traced, frozen and optimised for inference (weights
packed for oneDNN, operators fused).

usage: torch_network.py FOLDER THREADS SECONDS (of timed runs for each way)
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

_WARM_UP, _LEAST_RUNS, _MOST_RUNS = 3, 3, 50


class Network(torch.nn.Module):
    """Interprets the operators; tracing turns that into a graph."""

    def __init__(self, graph: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.graph = graph
        self.weights = weights

    def forward(self, x: torch.Tensor) -> Any:
        """The network's output."""
        values = {**self.weights, self.graph["input"]: x}
        for op in self.graph["operators"]:
            inputs = [values[name] for name in op["inputs"]]
            values[op["output"]] = OPERATORS[op["type"]](inputs, op["attributes"])
        return values[self.graph["output"]]


def _pads(x: torch.Tensor, a: dict[str, Any], fill: float) -> torch.Tensor:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    return functional.pad(x, (left, right, top, bottom), value=fill) if any((top, left, bottom, right)) else x


def _conv(inputs: list[torch.Tensor], a: dict[str, Any]) -> torch.Tensor:
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    x, pad = (inputs[0], (top, left)) if (top, left) == (bottom, right) else (_pads(inputs[0], a, 0.0), (0, 0))
    bias = inputs[2] if len(inputs) > 2 else None
    return functional.conv2d(
        x, inputs[1], bias, tuple(a.get("strides", [1, 1])), pad, tuple(a.get("dilations", [1, 1])), a.get("group", 1)
    )


def _max_pool(inputs: list[torch.Tensor], a: dict[str, Any]) -> torch.Tensor:
    padded = _pads(inputs[0], a, float("-inf"))
    return functional.max_pool2d(padded, tuple(a["kernel_shape"]), tuple(a.get("strides", [1, 1])))


def _average_pool(inputs: list[torch.Tensor], a: dict[str, Any]) -> torch.Tensor:
    if any(a.get("pads", [0])) and not a.get("count_include_pad", 0):
        raise ValueError("an average over padded windows")
    return functional.avg_pool2d(_pads(inputs[0], a, 0.0), tuple(a["kernel_shape"]), tuple(a.get("strides", [1, 1])))


def _gemm(inputs: list[torch.Tensor], a: dict[str, Any]) -> torch.Tensor:
    weight = inputs[1] if a.get("transB", 0) else inputs[1].T
    return functional.linear(inputs[0], weight, inputs[2] if len(inputs) > 2 else None)


OPERATORS: dict[str, Any] = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda i, a: i[0].mean((2, 3), keepdim=True),
    "Gemm": _gemm,
    "Relu": lambda i, a: functional.relu(i[0]),
    "LRN": lambda i, a: functional.local_response_norm(
        i[0], a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0)
    ),
    "Concat": lambda i, a: torch.cat(i, a["axis"]),
    "Add": lambda i, a: i[0] + i[1],
    "Mul": lambda i, a: i[0] * i[1],
    "Flatten": lambda i, a: i[0].flatten(1),
    "Identity": lambda i, a: i[0],
    "Dropout": lambda i, a: i[0],
    "Softmax": lambda i, a: functional.softmax(i[0], a.get("axis", -1)),
}


def read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The operators and the weights by their names in the graph."""
    graph: dict[str, Any] = json.loads((folder / "network.json").read_text())
    with np.load(folder / "weights.npz", allow_pickle=False) as file:
        return graph, {name: torch.from_numpy(file[key]) for name, key in graph["weights"].items()}


def main() -> None:
    """Load, check, time."""
    folder, threads, turn_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(threads)
    graph, weights = read(folder)
    expected = np.load(folder / "expected.npy")
    best: dict[str, Any] = {}
    for order, frozen in itertools.product((torch.contiguous_format, torch.channels_last), (False, True)):
        x = torch.from_numpy(np.load(folder / "x.npy")).to(memory_format=order)
        held = {n: w.to(memory_format=order) if w.dim() == 4 else w for n, w in weights.items()}
        with torch.inference_mode():
            function: Any = Network(graph, held).eval()
            if frozen:
                traced = torch.jit.trace(function, x, check_trace=False)
                function = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
            got = [function(x) for _ in range(_WARM_UP)][-1].numpy()
            taken: list[float] = []
            while len(taken) < _LEAST_RUNS or (sum(taken) < turn_s and len(taken) < _MOST_RUNS):
                start = time.perf_counter()
                function(x)
                taken.append(time.perf_counter() - start)
        error = float(np.abs(got - expected).max() / np.abs(expected).max())
        if not best or statistics.median(taken) < statistics.median(best["seconds"]):
            way = f"{str(order).removeprefix('torch.')}, {'frozen' if frozen else 'eager'}"
            best = {"seconds": taken, "relative_error": error, "order": way}
    onednn = [line.split("- ")[-1].strip() for line in torch.__config__.show().splitlines() if "MKL-DNN" in line]
    print(json.dumps({**best, "torch": torch.__version__, "onednn": onednn[0] if onednn else "absent"}))


if __name__ == "__main__":
    main()
