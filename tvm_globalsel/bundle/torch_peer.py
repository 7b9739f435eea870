"""A network of tasks in PyTorch: a plain script that needs torch and numpy only, so that any interpreter may run it.

    python torch_peer.py FOLDER

``FOLDER`` holds ``job.json``, perhaps the first output's first sample in float64 (``expected.npy``), and the arrays
``0.npy``, ``1.npy``, ...: every operator's parameters in order, then the inputs. Prints one JSON object: medians in ms
by way of running it, the ways that failed, the error against what was expected.

Batch normalisation is folded already and every operator has its epilogue behind it, as in our own network: PyTorch is
given the easier graph. float32 means float32 (TF32 is off); ``cudnn.benchmark`` is on.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

JOB, EXPECTED = "job.json", "expected.npy"
_WARM_UP = 5


def main(folder: str) -> dict[str, Any]:
    """Everything that the job asks for, until its time is up."""
    with open(os.path.join(folder, JOB)) as file:
        job = json.load(file)
    try:
        import numpy as np
        import torch
    except ImportError as error:
        return {"error": f"not installed ({error})"}
    cuda = job["device"] == "cuda"
    if cuda and not torch.cuda.is_available():
        return {"error": "this PyTorch has no CUDA"}
    torch.set_num_threads(job["threads"])
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_grad_enabled(False)
    arrays: list[Any] = []
    while os.path.exists(path := os.path.join(folder, f"{len(arrays)}.npy")):
        arrays.append(torch.from_numpy(np.load(path, allow_pickle=False)))
    dtype, device = getattr(torch, job["dtype"]), torch.device(job["device"])
    count = len(job["inputs"])
    given = arrays[len(arrays) - count :]
    start = time.monotonic()
    result: dict[str, Any] = {"torch": torch.__version__, "ms": {}, "failed": {}, "relative_error": {}}
    network = build(torch, job, arrays[: len(arrays) - count])
    expected_file = os.path.join(folder, EXPECTED)
    expected = torch.from_numpy(np.load(expected_file, allow_pickle=False)) if os.path.exists(expected_file) else None
    ways = ["eager", *(["graph"] if cuda else []), *(["max-autotune"] if job["compile"] else [])]
    for name, memory_format in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        moved = network.to(device=device, dtype=dtype).to(memory_format=memory_format)
        inputs = [x.to(device=device, dtype=dtype) for x in given]
        inputs = [x.contiguous(memory_format=memory_format) if x.dim() == 4 else x for x in inputs]
        for way in ways:
            label = f"{name} {way}"
            if time.monotonic() - start > job["limit_s"]:
                result["failed"][label] = "the time was up"
                continue
            try:
                result["ms"][label], output = measure(torch, way, moved, inputs, job["rounds"], cuda)
                if expected is None:
                    continue
                got = output[:1].double().cpu()
                result["relative_error"][label] = float((got - expected).abs().max() / expected.abs().max())
            except Exception as error:  # whatever a compiler of theirs raises
                result["failed"][label] = f"{type(error).__name__}: {error}"[:300]
    return result


def measure(torch: Any, way: str, network: Any, inputs: list[Any], rounds: int, cuda: bool) -> tuple[float, Any]:
    """(median milliseconds of one inference, first output)."""
    run = network
    if way == "max-autotune":
        torch.compiler.reset()
        run = torch.compile(network, mode="max-autotune")
    for _ in range(_WARM_UP):
        outputs = run(*inputs)
    kept = outputs[0].clone()
    if way == "graph":
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            outputs = network(*inputs)

        def step() -> Any:
            return captured.replay()
    else:

        def step() -> Any:
            return run(*inputs)

    taken = []
    for _ in range(rounds + 2):
        if cuda:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            step()
            last.record()
            last.synchronize()
            taken.append(first.elapsed_time(last))
        else:
            start = time.perf_counter()
            step()
            taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken[2:]), kept


def build(torch: Any, job: dict[str, Any], arrays: list[Any]) -> Any:
    """The network as one ``torch.nn.Module``; raises ValueError for an operator that has no counterpart."""
    operators = job["operators"]

    class Network(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.params = torch.nn.ParameterList([torch.nn.Parameter(a, requires_grad=False) for a in arrays])

        def forward(self, *given: Any) -> list[Any]:
            values = {spec["name"]: x for spec, x in zip(job["inputs"], given)}  # noqa: B905
            left = list(self.params)
            for op in operators:
                task, args = op["task"], [values[name] for name in op["inputs"]]
                steps = task.get("epilogue", [])
                count = (task["kind"] in ("conv2d", "dense")) + sum(s[0] in ("bias", "scale") for s in steps)
                params, left = left[:count], left[count:]
                values[op["name"]] = run_task(torch, task, args, params)
            return [values[name] for name in job["outputs"]]

    return Network()


def run_task(torch: Any, task: dict[str, Any], args: list[Any], params: list[Any]) -> Any:
    """One operator with its epilogue."""
    f, kind = torch.nn.functional, task["kind"]
    steps = list(task.get("epilogue", []))
    x, weights = args[0], list(params)
    if kind in ("conv2d", "dense"):
        weight = weights.pop(0)
        bias = weights.pop(0) if steps and steps[0][0] == "bias" else None
        steps = steps[1:] if bias is not None else steps
        if kind == "dense":
            x = f.linear(x.flatten(1), weight, bias)
        else:
            x, pad = padded(f, x, task["pad"], 0.0)
            x = f.conv2d(x, weight, bias, task["stride"], pad, task["dilation"], task["groups"])
        used = 1
    elif kind == "pool2d":
        x, used = pooled(f, torch, x, task), 1
    elif kind == "concat":
        used = len(task["channels"])
        x = torch.cat(args[:used], 1)
    elif kind == "eltwise":
        used = 1
    elif kind == "lrn":
        x, used = f.local_response_norm(x, task["size"], task["alpha"], task["beta"], task["bias"]), 1
    elif kind == "softmax":
        x, used = torch.softmax(x, task["axis"]), 1
    elif kind == "view":
        x, used = x.reshape(task["to_shape"]), 1
    elif kind == "cast":
        x, used = x.to(getattr(torch, task["dtype"])), 1
    elif kind == "shuffle":
        x, used = f.channel_shuffle(x, task["groups"]), 1
    else:
        raise ValueError(f"{kind} has no counterpart in PyTorch")
    return epilogue(torch, x, steps, weights, args[used:])


def pooled(f: Any, torch: Any, x: Any, task: dict[str, Any]) -> Any:
    """Pooling as the task defines it."""
    window, stride = (task["r"], task["s"]), task["stride"]
    if task["mode"] == "max":
        x, pad = padded(f, x, task["pad"], float("-inf"))
        return f.max_pool2d(x, window, stride, pad, task["dilation"])
    top, left, bottom, right = task["pad"]
    if (top, left) == (bottom, right):
        return f.avg_pool2d(x, window, stride, (top, left), count_include_pad=task["divisor"] == "window")
    total = f.avg_pool2d(f.pad(x, (left, right, top, bottom)), window, stride)
    if task["divisor"] == "window":
        return total
    return total / f.avg_pool2d(f.pad(torch.ones_like(x), (left, right, top, bottom)), window, stride)


def padded(f: Any, x: Any, pad: list[int], value: float) -> tuple[Any, tuple[int, int]]:
    """(input, symmetric padding left to the operator): what is not symmetric is padded here."""
    top, left, bottom, right = pad
    if (top, left) == (bottom, right):
        return x, (top, left)
    return f.pad(x, (left, right, top, bottom), value=value), (0, 0)


def epilogue(torch: Any, x: Any, steps: list[Any], constants: list[Any], tensors: list[Any]) -> Any:
    """The steps behind an operator."""
    f = torch.nn.functional
    simple = {
        "relu": f.relu, "clip": torch.clamp, "leaky": f.leaky_relu, "sigmoid": torch.sigmoid, "silu": f.silu,
        "hardswish": f.hardswish, "tanh": torch.tanh, "gelu": f.gelu, "elu": f.elu, "exp": torch.exp,
        "sqrt": torch.sqrt, "abs": torch.abs, "neg": torch.neg, "add_scalar": torch.add, "mul_scalar": torch.mul,
        "pow_scalar": torch.pow, "hardsigmoid": lambda t, a, b: torch.clamp(t * a + b, 0, 1),
    }  # fmt: skip
    for kind, *numbers in steps:
        if kind in ("bias", "scale"):
            value = constants.pop(0).reshape(1, -1, *[1] * (x.dim() - 2))
            x = x + value if kind == "bias" else x * value
        elif kind in ("add", "mul"):
            other = tensors.pop(0)
            x = x + other if kind == "add" else x * other
        else:
            x = simple[kind](x, *numbers)
    return x


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
