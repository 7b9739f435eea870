"""CUDA schedules without a GPU: what they compute, run thread by thread on the CPU; what they need of a device."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from te_kernels import check
from te_kernels.cuda import _mma
from te_kernels.cuda._conv import ConvGemm
from te_kernels.cuda._product import ProductVariant
from te_kernels.cuda._rows import Rows
from te_kernels.epilogue import Step
from te_kernels.gpu import FLOAT16, FLOAT32, Gpu, describe_gpu, machine_of
from te_kernels.task import (
    CastTask,
    ConcatTask,
    ConvTask,
    DenseTask,
    EltwiseTask,
    LrnTask,
    PoolTask,
    ShuffleTask,
    SoftmaxTask,
    Task,
    TransformTask,
)
from te_kernels.variant import Reject, Variant, all_variants, variants_for
from tests.te_kernels.cuda.emulate import serial
from tests.te_kernels.kernel_checks import TARGET

ARCHITECTURES = {"sm_80": "nvidia/nvidia-a100", "sm_90a": "nvidia/nvidia-h100"}
STEPS = (Step("bias"), Step("silu"), Step("add"))
CPU = tvm.target.Target({"kind": "llvm", "mcpu": str(TARGET.attrs["mcpu"]), "opt-level": 0})
PASSES = {"tirx.use_async_copy": True, "tirx.disable_storage_rewrite": True}

TASKS: list[Task] = [
    EltwiseTask((1, 13, 5, 7), STEPS),
    EltwiseTask((2, 12), (Step("hardswish"),)),
    ConcatTask(1, (8, 5, 12), 3, 5, (Step("relu"),)),
    ConcatTask(2, (8, 12), 3, 4),
    ShuffleTask((1, 24, 4, 3), 3),
    LrnTask((1, 13, 4, 5), 5, 1.0, 0.75, 1.0),
    SoftmaxTask((1, 13, 3, 4), 1),
    PoolTask("max", 1, 13, 9, 8, 3, 3, (2, 2), (1, 1, 1, 1), epilogue=STEPS),
    PoolTask("avg", 1, 8, 9, 8, 3, 2, (1, 2), (1, 1, 1, 1), divisor="valid"),
    DenseTask((1, 13, 3, 3), 10, STEPS),
    DenseTask((3, 40), 21, (Step("bias"),)),
    *(TransformTask((2, 13, 5, 7), a, b) for a, b in (("NCHW", "NHWC"), ("NHWC", "NCHW"), ("NCHW", "{}"),
                                                      ("{}", "NCHW"), ("NHWC", "{}"), ("{}", "NHWC"))),
    CastTask((1, 11, 4, 5), FLOAT32, FLOAT16),
    CastTask((1, 11, 4, 5), FLOAT16, FLOAT32),
]  # fmt: skip
CONVOLUTIONS = [
    ConvTask(1, 18, 7, 6, 20, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=STEPS),
    ConvTask(2, 8, 9, 8, 12, 3, 2, (2, 1), (1, 0, 1, 1), (1, 2), groups=2, epilogue=(Step("bias"),)),
    ConvTask(2, 24, 6, 6, 24, 3, 3, (1, 1), (1, 1, 1, 1), groups=24, epilogue=(Step("bias"), Step("relu"))),
    ConvTask(1, 72, 4, 4, 16, 1, 1),
]


def gpu(dtype: str, tag: str = "nvidia/nvidia-h100") -> Gpu:
    return describe_gpu(tvm.target.Target(tag), dtype)


def instances(task: Task, machine: Gpu, every: bool = False) -> list[Variant]:
    """All candidates, or the first of every variant in every pair of layouts."""
    found: dict[Any, Variant] = {}
    for cls in variants_for(task, machine):
        try:
            for variant in cls.candidates(task, machine):
                assert variant.name.startswith("cuda_") and "cuda" in variant.kinds
                key = variant.label if every else (variant.name, str(variant.layouts(task)))
                found.setdefault(key, variant)
        except Reject as reason:
            assert str(reason).strip(), f"{cls.name} rejects {task} without a reason"
    return list(found.values())


def on_machine(task: Task, machine: Gpu) -> Task:
    if isinstance(task, TransformTask):
        blocked = machine.blocked_layout
        return TransformTask(task.shape, task.source.format(blocked), task.destination.format(blocked))
    return task


def runnable(task: Task, variant: Variant, machine: Gpu) -> tvm.tirx.PrimFunc:
    """The schedule for a CPU: threads in turn, and fragments as the loops that the instructions replace."""
    if "mma" in variant.name:
        assert isinstance(variant, ProductVariant)
        product = variant.program(task)
        assert isinstance(product, ConvGemm | Rows)
        return serial(_mma.prim_func(product.product, product.tile, product.operands(), tensorize=False))
    return serial(variant.prim_func(task, machine))


def check_all(tasks: list[Task], machine: Gpu) -> int:
    pairs = [(task, v) for task in (on_machine(t, machine) for t in tasks) for v in instances(task, machine)]
    functions = {
        f"kernel{i}": runnable(task, variant, machine).with_attr("global_symbol", f"kernel{i}")
        for i, (task, variant) in enumerate(pairs)
    }
    module = tvm.compile(tvm.IRModule(functions), target=CPU)
    for index, (task, variant) in enumerate(pairs):
        case = check.make_case(task, dtype=machine.dtype)
        args = check.arguments(case, variant, machine.dtype)
        module[f"kernel{index}"](*args)
        error = check.relative_error(case, variant, args)
        assert error <= check.tolerance(variant, task, machine.dtype), f"{variant.label} on {task}: {error:.2e}"
    return len(pairs)


def test_generic_kernels_compute_their_tasks() -> None:
    casts = [t for t in TASKS if isinstance(t, CastTask)]
    assert check_all([t for t in TASKS if t not in casts], gpu(FLOAT32)) > 25


def test_generic_kernels_compute_their_tasks_in_half() -> None:
    few = [TASKS[i] for i in (0, 3, 6, 7, 9)] + [t for t in TASKS if isinstance(t, CastTask | TransformTask)]
    assert check_all(few, gpu(FLOAT16)) > 15


@pytest.mark.parametrize("task", CONVOLUTIONS, ids=lambda t: f"{t.c}-{t.k}-{t.r}x{t.s}-g{t.groups}")
def test_convolutions_compute_their_tasks(task: ConvTask) -> None:
    assert check_all([task], gpu(FLOAT32)) >= 4


def test_tensor_core_schedules_compute_their_tasks() -> None:
    machine = gpu(FLOAT16)
    names = {v.name for v in instances(CONVOLUTIONS[3], machine)}
    assert {"cuda_conv_mma_nhwc", "cuda_conv_mma_nchw", "cuda_conv_mma_nchwc"} <= names
    assert check_all([CONVOLUTIONS[0]], machine) >= 8


@pytest.mark.parametrize("dtype, name", [(FLOAT32, "cuda_dense_gemm"), (FLOAT16, "cuda_dense_mma")])
def test_dense_layers_of_a_batch_are_products(dtype: str, name: str) -> None:
    task = DenseTask((6, 8, 3, 2), 21, (Step("bias"), Step("relu")))
    assert name in {v.name for v in instances(task, gpu(dtype))}
    assert check_all([task], gpu(dtype)) >= 6


def test_split_sums_compute_their_tasks() -> None:
    """Small maps of many channels: k is cut in parts, summed by a second kernel."""
    task = ConvTask(1, 512, 3, 3, 24, 1, 1, epilogue=(Step("bias"), Step("relu")))
    machine = gpu(FLOAT32)
    split = [v for v in instances(task, machine, every=True) if v.knobs.get("splits", 1) > 1]
    assert {v.knobs["out"] for v in split} == {"NCHW", "NHWC", "NCHW4c"}
    for variant in split[::4]:
        assert variant.workspace_bytes(task) > 0
        module = tvm.compile(tvm.IRModule({"main": runnable(task, variant, machine)}), target=CPU)
        case = check.make_case(task)
        args = check.arguments(case, variant)
        module["main"](*args)
        assert check.relative_error(case, variant, args) <= variant.relative_error, variant.label


class _Lowered:
    """Collects device functions as they are before their launch is packed."""

    def __init__(self) -> None:
        self.text = ""

    def instrument(self) -> Any:
        collected = self

        @tvm.instrument.pass_instrument
        class Collect:
            def run_after_pass(self, module: tvm.IRModule, info: Any) -> None:
                if "MergeSharedMemory" in info.name:
                    collected.text = module.script(show_meta=False)

        return Collect()


def needs(lowered: str) -> tuple[int, int]:
    """(threads of a block, bytes of shared memory), at most, over the kernels of a lowered function."""
    axes = {axis: [1] for axis in "xyz"}
    for axis, extent in re.findall(r'launch_thread\("threadIdx\.(\w)", (\d+)\)', lowered):
        axes[axis].append(int(extent))
    dynamic = re.findall(r'alloc_buffer\(\((\d+),\), "uint8", scope="shared\.dyn"', lowered)
    return int(np.prod([max(extents) for extents in axes.values()])), max(map(int, dynamic), default=0)


REAL = [
    ConvTask(1, 64, 28, 28, 64, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=(Step("bias"), Step("relu"))),
    ConvTask(1, 3, 64, 64, 32, 7, 7, (2, 2), (3, 3, 3, 3), epilogue=(Step("bias"),)),
]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
def test_kernels_become_source_within_the_limits(arch: str, dtype: str) -> None:
    """Threads and shared memory against the device; every kernel is generated as CUDA source, which needs no nvcc."""
    machine = gpu(dtype, ARCHITECTURES[arch])
    assert machine.mcpu == arch
    target = tvm.target.Target(ARCHITECTURES[arch], host=tvm.target.Target({"kind": "llvm"}))
    seen: set[str] = set()
    second = REAL[1:] if (arch, dtype) == ("sm_90a", FLOAT32) else []  # the first layer of a network
    for task in (REAL[0], *second, *TASKS[:1], TASKS[7], TASKS[9], TransformTask((1, 64, 28, 28), "NCHW", "NHWC")):
        for variant in instances(task, machine):
            if variant.name in seen and variant.family != "gemm":
                continue
            seen.add(variant.name)
            lowered = _Lowered()
            func = variant.prim_func(task, machine).with_attr("global_symbol", "main")
            with tvm.transform.PassContext(config=PASSES, instruments=[lowered.instrument()]):
                library = tvm.compile(tvm.IRModule({"main": func}), target=target)
            source = library.mod.imports[0].inspect_source()
            threads, shared = needs(lowered.text)
            assert 0 < threads <= machine.max_threads, variant.label
            assert (variant.family == "gemm") <= (0 < shared <= machine.shared_bytes), variant.label
            assert all(int(n) <= 65535 for n in re.findall(r'launch_thread\("blockIdx\.y", (\d+)\)', lowered.text))
            assert "ulonglong4" not in source, f"{variant.label} uses vectors wider than 16 bytes"
            if variant.knobs.get("stages", 1) > 1:
                assert "ptx_cp_async" in source, f"{variant.label} does not copy asynchronously"
            if "mma" in variant.name:
                assert "wmma::mma_sync" in source
    assert len(seen) >= 10


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nvcc_accepts_the_source(arch: str, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    dtype = FLOAT16 if arch == "sm_80" else FLOAT32
    machine = gpu(dtype, ARCHITECTURES[arch])
    target = tvm.target.Target(ARCHITECTURES[arch], host=tvm.target.Target({"kind": "llvm"}))
    name = "cuda_conv_mma_nhwc" if dtype == FLOAT16 else "cuda_conv_gemm_nhwc"
    variant = next(iter(all_variants()[name].candidates(REAL[0], machine)))
    func = variant.prim_func(REAL[0], machine).with_attr("global_symbol", "main")
    with tvm.transform.PassContext(config=PASSES):
        library = tvm.compile(tvm.IRModule({"main": func}), target=target)
    (tmp_path / "kernel.cu").write_text(library.mod.imports[0].inspect_source())
    command = ["nvcc", "--cubin", f"-arch={arch}", "--ptxas-options=-v", "-o", "kernel.cubin", "kernel.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\b0 bytes spill stores", done.stderr), "registers are spilled"


def test_no_variant_serves_both_kinds() -> None:
    for variant in all_variants().values():
        assert variant.kinds in (("llvm",), ("cuda",)), variant.name
    cpu = machine_of(TARGET, 1)
    assert not any(v.name.startswith("cuda_") for v in variants_for(CONVOLUTIONS[0], cpu))
    assert all(v.name.startswith("cuda_") for v in variants_for(CONVOLUTIONS[0], gpu(FLOAT32)))


def test_descriptions() -> None:
    h100, a100 = gpu(FLOAT32), gpu(FLOAT32, "nvidia/nvidia-a100")
    assert (h100.mcpu, h100.multiprocessors, a100.mcpu, a100.multiprocessors) == ("sm_90a", 132, "sm_80", 108)
    with pytest.raises(ValueError, match="sm_37"):
        describe_gpu(tvm.target.Target({"kind": "cuda", "arch": "sm_37"}))
    with pytest.raises(ValueError, match="float16"):
        machine_of(TARGET, 1, FLOAT16)
