"""CUDA without a GPU: selection on a synthetic log, rewrite, build; what a plan says of its costs; user errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm

from te_kernels.gpu import Gpu, machine_of
from tests.globalsel import nets
from tests.globalsel.commands import command
from tests.te_kernels.cuda.emulate import serial
from tests.te_kernels.kernel_checks import TARGET as HOST
from tvm_globalsel import build_cuda
from tvm_globalsel.candidates import candidates_of, transform_tasks
from tvm_globalsel.demands import Demands
from tvm_globalsel.errors import UserError
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.fuse import simplify
from tvm_globalsel.log import TuningLog, make_record
from tvm_globalsel.lowering import lower
from tvm_globalsel.offline import gpu_context
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile, select
from tvm_globalsel.selected import Selected
from tvm_globalsel.selection import transform_candidates
from tvm_globalsel.targets import parse_target
from tvm_globalsel.verify import reference_session, relative_error

TAG = "nvidia/nvidia-h100"
FATBIN = bytes.fromhex("50ed55ba")


def options(**changes: object) -> Options:
    return Options(target=TAG, **changes)  # type: ignore[arg-type]


def selected(model: onnx.ModelProto, chosen: Options) -> Selected:
    return select(import_onnx(prepare(model, {}, None), "net").module, chosen)


def synthetic_log(model: onnx.ModelProto, path: Path) -> None:
    """SYNTHETIC: made-up, deterministic costs (the variants' models, seeded noise) for every candidate of a network."""
    machine = machine_of(parse_target(TAG, 1), 1)
    assert isinstance(machine, Gpu)
    network = simplify(extract(import_onnx(prepare(model, {}, None), "net").module))
    context = gpu_context(machine, TAG, "cache")
    found = candidates_of(network, machine)
    moves = transform_candidates(transform_tasks(network, found), machine)
    rng = np.random.default_rng(0)
    TuningLog(path).append(
        make_record(
            context, c.task, v, costs_s=(v.model_s(c.task, machine) * rng.uniform(0.7, 1.4),),  # type: ignore[attr-defined]
            relative_error=1e-7,
        )
        for c in (*found.values(), *moves.values()) for v in c.variants if c.task.kind != "view"
    )  # fmt: skip


def run_on_cpu(module: tvm.IRModule, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The whole rewritten network with the threads of its kernels in turn."""
    functions = {
        gv: serial(f).without_attr("global_symbol") if isinstance(f, tvm.tirx.PrimFunc) else f
        for gv, f in module.functions.items()
    }
    cpu = tvm.target.Target({"kind": "llvm", "mcpu": str(HOST.attrs["mcpu"]), "opt-level": 0})
    built = tvm.compile(tvm.IRModule(functions), target=cpu, relax_pipeline=build_cuda.vm_pipeline())
    machine = tvm.relax.VirtualMachine(built, tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(x) for x in inputs))
    return [r.numpy() for r in ([result] if hasattr(result, "numpy") else result)]


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-5), ("float16", 1e-2)])
def test_the_rewritten_network_computes_the_model(precision: str, tolerance: float, tmp_path: Path) -> None:
    """Every kernel as it is scheduled for the GPU (tensor-core instructions excepted), against ONNX Runtime."""
    mma = tuple(f"cuda_conv_mma_{name}" for name in ("nhwc", "nchw", "nchwc", "nhwc_nchw"))
    demands = Demands(forbids=mma) if precision == "float16" else Demands()
    log = tmp_path / "log.jsonl"
    model = nets.everything()
    chosen = selected(model, options(precision=precision, budget_s=0.0, tuning_log=log, demands=demands))
    x = np.random.default_rng(0).standard_normal((1, 3, 24, 24)).astype(np.float32)
    expected = reference_session(prepare(model, {}, None)).run(None, {"x": x})
    for got, wanted in zip(run_on_cpu(lower(chosen), [x]), expected, strict=True):
        assert got.dtype == np.float32
        assert relative_error(got, wanted) <= tolerance


def test_selection_on_a_log_is_measured_and_optimal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_cuda, "has_nvcc", lambda: False)  # source instead of a binary: faster
    log = tmp_path / "synthetic.jsonl"
    synthetic_log(nets.tiny(), log)
    plan = compile(nets.tiny(), tmp_path / "out", options(tuning_log=log)).plan
    assert plan["certificate"]["optimal"] and plan["costs"] == "measured"
    assert plan["device"] == "nvidia-h100" and plan["target"]["arch"] == "sm_90a"
    assert plan["predicted_s"]["selected"] <= plan["predicted_s"]["local"]
    assert all(node["variant"].startswith("cuda_") for node in plan["nodes"])
    assert b"__global__" in (tmp_path / "out" / "model.so").read_bytes()


def test_a_binary_is_embedded_and_what_lacks_a_device_says_so(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    model = tmp_path / "tiny.onnx"
    onnx.save(nets.tiny(), model)
    arguments = ("--target", TAG, "--tuning-log", tmp_path / "log.jsonl")
    refused = command("compile", model, "-o", tmp_path / "out", *arguments)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "pack-tuning" in refused.stderr and "run-tuning" in refused.stderr and "--budget 0" in refused.stderr
    done = command("compile", model, "-o", tmp_path / "out", *arguments, "--budget", 0)
    assert done.returncode == 0, done.stderr
    assert "NOT MEASURED" in done.stdout
    library = (tmp_path / "out" / "model.so").read_bytes()
    assert FATBIN in library and b"__global__" not in library
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["costs"] == "predicted by a model, nothing was measured"
    if not tvm.cuda().exist:
        run = command("run", tmp_path / "out")
        assert run.returncode == 2 and "CUDA" in run.stderr and "Traceback" not in run.stderr


def test_scratch_memory_is_planned_and_launches_are_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What k split needs is an output of the call; the kernels between the first and the last are one graph."""
    monkeypatch.setattr(build_cuda, "has_nvcc", lambda: False)
    net = nets.NetBuilder((1, 256, 7, 7))
    x = net.node("Relu", [net.conv("x", 256, 256, 3, 1, 1)])
    model = net.model(net.conv(net.node("Relu", [net.conv(x, 256, 256, 3, 1, 1)]), 256, 64, 3, 1, 1))
    chosen = selected(model, options(budget_s=0.0, tuning_log=tmp_path / "log.jsonl"))
    splits = [m.variant.knobs.get("splits", 1) for m in chosen.selection.variants.values()]
    assert max(splits) > 1
    module = lower(chosen)
    kernels = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    allocated = [b for f in kernels for b in f.body.block.alloc_buffers if b.scope() in ("", "global")]
    assert not allocated, "a kernel allocates memory of its own"
    library = build_cuda.build_kernels({"one": kernels[0].with_attr("global_symbol", "main")}, chosen.target)
    assert library.implements_function("one")
    text = build_cuda.build(module, chosen.target).as_text()
    assert "cuda_graph.run_or_capture" in text


def test_what_cannot_be_compiled_is_said(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for wrong, message in ((Options(target="nvidia/tesla-k80", tuning_log=log), "sm_37"),
                           (Options(precision="float16", tuning_log=log), "float16"),
                           (options(tuning_log=log), "pack-tuning")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            selected(nets.tiny(), wrong)
