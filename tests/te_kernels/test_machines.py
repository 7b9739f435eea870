"""The kernels beside convolutions on narrower machines, and with two threads."""

from __future__ import annotations

import itertools

import pytest
import tvm

from te_kernels.epilogue import Step
from te_kernels.machine import Machine, host_target
from te_kernels.task import (
    ConcatTask,
    DenseTask,
    EltwiseTask,
    LrnTask,
    PoolTask,
    ShuffleTask,
    SoftmaxTask,
    Task,
    TransformTask,
)
from tests.te_kernels import kernel_checks

STEPS = (Step("bias"), Step("silu"), Step("add"))
MACHINES = {
    "avx2": Machine("llvm", "haswell", 8, 16, 32 << 10, 256 << 10, 8 << 20, 1),
    "sse": Machine("llvm", "x86-64", 4, 16, 32 << 10, 256 << 10, 8 << 20, 1),
    "threads": Machine("llvm", "host", *(getattr(kernel_checks.MACHINE, f) for f in (
        "vector_lanes", "vector_registers", "l1_bytes", "l2_bytes", "l3_bytes")), 2),
}  # fmt: skip


def _tasks(size: int) -> list[Task]:
    """``size`` scales the maps: the threaded paths start at a quarter megabyte."""
    h, w = 9 * size, 11 * size
    return [
        *(TransformTask((1, 37, h, w), a, b) for a, b in itertools.permutations(("NCHW", "NHWC", "{}"), 2)),
        EltwiseTask((1, 37, h, w), STEPS),
        EltwiseTask((1, 37, h, w), (Step("hardswish"),)),
        ConcatTask(1, (16, 21, 8), h, w, STEPS),
        ConcatTask(1, (16, 21, 8), h, w),
        ShuffleTask((1, 48, h, w), 3),
        LrnTask((1, 37, h, w), 5, 1.0, 0.75, 1.0),
        SoftmaxTask((1, 37, h, w), 1),
        SoftmaxTask((37 * size, 11 * size), 1),
        PoolTask("max", 1, 37, h, w, 3, 3, (2, 2), (1, 1, 1, 1), epilogue=STEPS),
        PoolTask("avg", 1, 37, h, w, 3, 2, (1, 2), (1, 1, 1, 1), divisor="valid"),
        PoolTask("avg", 1, 37, h, w, h, w, (1, 1)),
        DenseTask((1, 37, 9, 11), 30 * size, STEPS),
        DenseTask((3, 500 * size), 21, STEPS),
    ]  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    narrow = {"kind": "llvm", "mcpu": machine.mcpu}
    target = host_target(2) if name == "threads" else tvm.target.Target(narrow)
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    monkeypatch.setattr(kernel_checks, "TARGET", target)
    for task in _tasks(8 if name == "threads" else 1):
        if isinstance(task, TransformTask):
            blocked = machine.blocked_layout
            task = TransformTask(task.shape, task.source.format(blocked), task.destination.format(blocked))
        assert kernel_checks.check_all(task), task
