"""Check and time the kernels of a library on a GPU, with TVM's runtime only.

A kernel is captured into a CUDA graph many times over and timed by replays: inside a network it runs from a graph too,
and started one by one from the host, every kernel below three microseconds would take three. Its inputs were just
written, as in a network. Where the network's weights do not stay in the L2 cache (``weights`` is ``"memory"``), the
calls in the graph take turns with copies of the parameters that exceed it together.
"""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from te_kernels import check
from te_kernels.gpu import FLOAT32, Gpu
from te_kernels.layout import Layout
from te_kernels.task import OpaqueTask, Task, from_dict
from te_kernels.variant import Variant, from_knobs
from tvm_globalsel.bundle.cuda_graph import CudaGraph
from tvm_globalsel.bundle.networks import resized

_BLOCKS = 5
_REPLAYS_IN_BLOCK = 3
_REPLAY_S = 300e-6
_MOST_CALLS = 128
_SLOW_KERNEL_S = 0.05  # one run of such a kernel is measurement enough


def evaluate_kernels(module: Any, device: Any, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Check every kernel of a library against its oracle, then time it, but for those of ``skip``."""
    machine = Gpu(**spec["machine"])
    results: list[dict[str, Any]] = []
    timed: list[tuple[dict[str, Any], Any, list[list[Any]], float]] = []
    for index, item in enumerate(spec["kernels"]):
        result: dict[str, Any] = {"costs_s": []}
        results.append(result)
        if index in spec.get("skip", ()):
            continue
        if not module.implements_function(f"kernel{index}", True):
            result["error"] = "not built"
            continue
        task, variant = from_dict(item["task"]), from_knobs(item["variant"], item["knobs"])
        kernel, oracle = module[f"kernel{index}"], f"oracle{index}"
        if isinstance(task, OpaqueTask):
            args, error, params = *_check_opaque(kernel, module[oracle], task, machine, device), 0
        else:
            args, error, params = *_check(kernel, task, variant, machine, device), len(task.param_shapes)
        allowed = check.tolerance(variant, task, machine.dtype)
        result["relative_error"] = error if math.isfinite(error) else None
        if not error <= allowed:
            shown = f"{error:.2e}" if math.isfinite(error) else "not finite"
            result["error"] = f"wrong result: relative error {shown}, allowed {allowed:.0e}"
            continue
        single = CudaGraph(device, functools.partial(kernel, *args))
        single_s = min(single.seconds() for _ in range(3))
        single.close()
        if single_s > _SLOW_KERNEL_S:
            result["costs_s"] = [single_s]
            continue
        copies = _copies(args, params, device, machine) if spec["weights"] == "memory" and params else [args]
        timed.append((result, kernel, copies, single_s))
    _time_in_turns(timed, device)
    return results


def _time_in_turns(timed: list[tuple[dict[str, Any], Any, list[list[Any]], float]], device: Any) -> None:
    # every graph's scratch memory has its final size now, since each kernel has run: nothing moves while they live
    graphs: list[tuple[dict[str, Any], CudaGraph, int]] = []
    for result, kernel, copies, single_s in timed:
        calls = min(max(math.ceil(_REPLAY_S / single_s), len(copies)), _MOST_CALLS)

        def body(kernel: Any = kernel, copies: list[list[Any]] = copies, calls: int = calls) -> None:
            for call in range(calls):
                kernel(*copies[call % len(copies)])

        graphs.append((result, CudaGraph(device, body), calls))
    for _ in range(_BLOCKS):
        for result, graph, calls in graphs:
            graph.replay()  # warms what it needs after the others
            result["costs_s"].append(statistics.median(graph.seconds() for _ in range(_REPLAYS_IN_BLOCK)) / calls)
    for _, graph, _ in graphs:
        graph.close()


def _check(kernel: Any, task: Task, variant: Variant, machine: Gpu, device: Any) -> tuple[list[Any], float]:
    """(arguments, relative error) of one run."""
    case = _case(task, machine.dtype)
    whole = check.Case(task, case.inputs, case.params, case.expected)
    args = [tvm.runtime.tensor(arg.numpy(), device) for arg in check.arguments(whole, variant, machine.dtype)]
    kernel(*args)
    device.sync()
    stored = args[-1].numpy()
    if not np.isfinite(stored).all():
        return args, math.inf
    result = Layout(variant.layouts(task).output).unpack(stored, task.output_shape)[case.samples].astype(np.float64)
    return args, float(np.abs(result - case.expected).max()) / (float(np.abs(case.expected).max()) or 1.0)


@dataclass(frozen=True)
class _Case:
    """Inputs of a task, and what some of the samples should become in float64."""

    inputs: list[np.ndarray]
    params: list[np.ndarray]
    samples: list[int]
    expected: np.ndarray


@functools.lru_cache(maxsize=3)
def _case(task: Task, dtype: str) -> _Case:
    """Seeded.

    Of large batches the first, the last and the middle sample are compared (the oracles run on the host, in float64),
    all others only for being finite.
    """
    batch = task.output_shape[0]
    samples = sorted({0, batch // 2, batch - 1})
    try:
        part = resized(task, len(samples), batch)
    except ValueError:  # its first axis is no batch
        part, samples = task, list(range(batch))
    case = check.make_case(part, dtype=dtype)
    inputs = []
    rng = np.random.default_rng(0)
    for few, shape in zip(case.inputs, task.input_shapes, strict=True):
        every = few
        if few.shape != shape:
            every = few[rng.integers(0, len(samples), batch)]  # the others are copies, which costs no random numbers
            every[samples] = few
        inputs.append(every)
    return _Case(inputs, case.params, samples, case.expected)


def _check_opaque(kernel: Any, oracle: Any, task: OpaqueTask, machine: Gpu, device: Any) -> tuple[list[Any], float]:
    rng = np.random.default_rng(0)
    arrays = []
    for shape, dtype in zip((*task.shapes, *task.constant_shapes), task.dtypes, strict=True):
        floating = dtype.startswith("float")
        array = rng.standard_normal(shape).astype(machine.dtype) if floating else rng.integers(0, 2, shape)
        arrays.append(array.astype(dtype))
    expected = tvm.runtime.empty(task.out_shape, task.out_dtype)
    oracle(*[tvm.runtime.tensor(np.array(a, order="C")) for a in arrays], expected)
    # inside of a float16 network its inputs and its output are float16, its constants are what they were
    inside = [machine.dtype if dtype == FLOAT32 else dtype for dtype in task.dtypes[: len(task.shapes)]]
    stored = [*inside, *task.dtypes[len(task.shapes) :]]
    args = [tvm.runtime.tensor(np.array(a, t, order="C"), device) for a, t in zip(arrays, stored, strict=True)]
    out_dtype = machine.dtype if task.out_dtype == FLOAT32 else task.out_dtype
    args.append(tvm.runtime.empty(task.out_shape, out_dtype, device))
    kernel(*args)
    device.sync()
    got, wanted = args[-1].numpy().astype(np.float64), expected.numpy().astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(got[~finite], wanted[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return args, math.inf
    scale = float(np.abs(wanted[finite]).max(initial=0.0)) or 1.0
    return args, float(np.abs(got[finite] - wanted[finite]).max(initial=0.0)) / scale


def _copies(args: list[Any], params: int, device: Any, machine: Gpu) -> list[list[Any]]:
    """Argument lists whose parameters exceed the L2 cache twice over together."""
    first = len(args) - 1 - params
    size = sum(args[i].numpy().nbytes for i in range(first, len(args) - 1))
    count = min(max(1, math.ceil(2 * machine.l2_bytes / max(size, 1))), _MOST_CALLS)
    copies = [args]
    for _ in range(count - 1):
        fresh = [tvm.runtime.tensor(args[i].numpy(), device) for i in range(first, len(args) - 1)]
        copies.append([*args[:first], *fresh, args[-1]])
    return copies
