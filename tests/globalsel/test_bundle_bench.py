"""Whole plans put together from a bundle's kernels; the GPU's command with the processor in the GPU's place."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm

from te_kernels.gpu import describe_gpu
from te_kernels.machine import describe, host_target
from te_kernels.task import ConvTask, PoolTask, Step, TransformTask
from te_kernels.variant import Variant
from tests.globalsel import nets
from tvm_globalsel.bundle import cuda_timing, seeded
from tvm_globalsel.bundle.networks import resized, with_batch
from tvm_globalsel.candidates import candidates_for
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.fuse import simplify
from tvm_globalsel.graph import Network

ROOT = Path(__file__).parents[2]


def _branches() -> onnx.ModelProto:
    """A concatenation that can be made in place, a residual sum, a reshape, a dense layer."""
    net = nets.NetBuilder((1, 16, 4, 4), seed=5)
    x = net.node("Relu", [net.conv("x", 16, 16, 1)])
    left, right = net.node("Relu", [net.conv(x, 16, 16, 1)]), net.conv(x, 16, 16, 1)
    x = net.node("Concat", [left, right], axis=1)
    x = net.node("Add", [net.conv(x, 32, 32, 1), x])
    w = net.constant((net.rng.standard_normal((5, 512)) / 22).astype("float32"), "fc")
    return net.model(net.node("Softmax", [net.node("Gemm", [net.node("Flatten", [x]), w], transB=1)], axis=1))


def _network(model: onnx.ModelProto) -> Network:
    imported = import_onnx(prepare(model, {}, None), "net")
    return simplify(extract(imported.module, imported.names))


def test_the_gpus_command_on_a_processor(tmp_path: Path) -> None:
    onnx.save(_branches(), tmp_path / "branches.onnx")
    packed = subprocess.run(
        [sys.executable, str(ROOT / "scripts/run_on_gpu.py"), "pack", str(tmp_path / "branches.onnx"),
         "-o", str(tmp_path / "folder"), "--device", "cpu", "--batch", "1", "--batch", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr[-2000:]
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(tmp_path / "folder/run_on_gpu.py"), "-o", str(tmp_path / "results"),
         "--torch", str(tmp_path / "no-such-python")],
        cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "results/float32.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [1, 2]
    for row in rows:
        plans = [row[name] for name in row if name in ("global", "local") or name.startswith("single:")]
        assert len(plans) == 3
        assert all(plan["relative_error"] < 2e-5 and plan["measured_ms"] > 0 for plan in plans)
        assert row["global"]["predicted_ms"] <= min(plan["predicted_ms"] for plan in plans)
        assert "no-such-python" in row["torch"]["error"]
    report = (tmp_path / "results/report.txt").read_text()
    assert "compared with float64, 0 failed" in report
    assert "| branches | 2 |" in report


def test_seeded_networks_are_the_same_at_every_batch_size() -> None:
    network = _network(_branches())
    three = with_batch(network, 3)
    params = seeded.weights(network)
    alone = seeded.reference(network, params, seeded.inputs(network))[0]
    together = seeded.reference(three, seeded.weights(three), seeded.inputs(three))[0]
    assert together.shape == (3, 5)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-12)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    assert with_batch(three, 1, 3) == network
    with pytest.raises(ValueError, match="no batch of 4 samples"):
        with_batch(three, 1, 4)


def test_tasks_of_another_batch_size() -> None:
    conv = ConvTask(1, 8, 6, 6, 8, 3, 3, pad=(1, 1, 1, 1), epilogue=(Step("bias"), Step("relu")))
    assert resized(conv, 5, 1) == ConvTask(5, 8, 6, 6, 8, 3, 3, pad=(1, 1, 1, 1), epilogue=conv.epilogue)
    assert resized(TransformTask((2, 8, 3, 3), "NCHW", "NHWC"), 1, 2).input_shapes == ((1, 8, 3, 3),)


class _HostGraph:
    """In the place of a CUDA graph: calls it again and takes the host's time."""

    open = 0

    def __init__(self, device: Any, body: Any) -> None:
        self._body = body
        _HostGraph.open += 1
        body()

    def replay(self) -> None:
        self._body()

    def seconds(self) -> float:
        start = time.perf_counter()
        self._body()
        return time.perf_counter() - start

    def close(self) -> None:
        _HostGraph.open -= 1


def test_the_gpus_measuring_finds_wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logic, on kernels built for the processor: arguments, copies of the weights, samples of large batches."""
    monkeypatch.setattr(cuda_timing, "CudaGraph", _HostGraph)
    target = host_target(1)
    machine = describe(target, 1)
    tasks = [ConvTask(7, 8, 6, 6, 8, 3, 3, pad=(1, 1, 1, 1), epilogue=(Step("bias"), Step("add"), Step("relu"))),
             PoolTask("max", 2, 8, 6, 6, 2, 2, (2, 2)), TransformTask((5, 8, 4, 4), "NCHW", "NHWC")]  # fmt: skip
    variants: list[Variant] = [candidates_for(task, machine).variants[0] for task in tasks]
    functions = {f"kernel{i}": v.prim_func(t, machine) for i, (t, v) in enumerate(zip(tasks, variants, strict=True))}
    other = ConvTask(7, 8, 6, 6, 8, 3, 3, pad=(1, 1, 1, 1), epilogue=(Step("bias"), Step("add")))
    functions["kernel3"] = variants[0].prim_func(other, machine)  # not the task it claims to be: no relu
    module = tvm.tirx.build(
        tvm.IRModule({name: func.with_attr("global_symbol", name) for name, func in functions.items()}), target=target
    )
    gpu = vars(describe_gpu(tvm.target.Target("nvidia/nvidia-h100"))) | {"l2_bytes": 3 << 10}
    kernels: list[Any] = [
        {"task": task.to_dict(), "variant": variant.name, "knobs": variant.knobs}
        for task, variant in [*zip(tasks, variants, strict=True), (tasks[0], variants[0])]
    ]
    spec = {"machine": gpu, "weights": "memory", "kernels": [*kernels, kernels[0], kernels[1]], "skip": [4]}
    results = cuda_timing.evaluate_kernels(module, tvm.cpu(), spec)
    for result in results[:3]:
        assert "error" not in result and len(result["costs_s"]) == 5 and min(result["costs_s"]) > 0
        assert result["relative_error"] < 2e-5
    assert results[3]["error"].startswith("wrong result: relative error") and not results[3]["costs_s"]
    assert results[4] == {"costs_s": []}
    assert results[5]["error"] == "not built"
    assert _HostGraph.open == 0
