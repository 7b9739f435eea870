"""The generic schedule of TVM's own lowerings, against the lowering itself; and views."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from te_kernels.generic import opaque
from te_kernels.task import OpaqueTask, ViewTask
from te_kernels.variant import Layouts, all_variants, from_knobs
from tests.te_kernels.kernel_checks import MACHINE, TARGET

Tensor = tuple[tuple[int, ...], str]


def lower(build: Callable[..., Any], *inputs: Tensor) -> OpaqueTask:
    """The task of one Relax operator, as legalised by TVM."""
    variables = [relax.Var(f"a{i}", relax.TensorType(shape, dtype)) for i, (shape, dtype) in enumerate(inputs)]
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            out = builder.emit_output(builder.emit(build(*variables)))
        builder.emit_func_output(out)
    module = relax.transform.LegalizeOps()(builder.get())
    (func,) = [f for f in module.functions.values() if isinstance(f, tirx.PrimFunc)]
    return OpaqueTask(
        "test", tuple(s for s, _ in inputs), tuple(d for _, d in inputs),
        tuple(int(d) for d in out.ty.shape), str(out.ty.dtype), lowered=func,
    )  # fmt: skip


def run(func: tirx.PrimFunc, task: OpaqueTask, arrays: list[np.ndarray]) -> np.ndarray:
    module = tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=TARGET)
    out = tvm.runtime.empty(task.out_shape, task.out_dtype)
    module["main"](*[tvm.runtime.tensor(a) for a in arrays], out)
    return np.asarray(out.numpy())


F = "float32"
CASES: dict[str, OpaqueTask] = {
    "permute": lower(lambda x: relax.op.permute_dims(x, [0, 2, 3, 1]), ((1, 24, 7, 16), F)),
    "slice": lower(
        lambda x: relax.op.strided_slice(x, [1, 2], [1, 0], [23, 7], [2, 1]), ((1, 24, 7, 9), F)
    ),
    "mean": lower(lambda x: relax.op.mean(x, [2, 3]), ((2, 33, 7, 7), F)),
    "mean channels": lower(lambda x: relax.op.mean(x, [1], keepdims=True), ((2, 33, 4, 8), F)),
    "pad": lower(lambda x: relax.op.nn.pad(x, [0, 0, 0, 0, 1, 2, 3, 1]), ((1, 5, 6, 12), F)),
    "take": lower(lambda x, i: relax.op.take(x, i, axis=1), ((3, 10, 8), F), ((4,), "int64")),
    "argmax": lower(lambda x: relax.op.argmax(x, 1), ((2, 50, 3), F)),
    "resize": lower(
        lambda x: relax.op.image.resize2d(x, (12, 16), layout="NCHW", method="linear"), ((1, 4, 6, 7), F)
    ),
    "concat": lower(lambda x, y: relax.op.concat([x, y], 2), ((1, 5, 3, 8), F), ((1, 5, 4, 8), F)),
    "matmul": lower(relax.op.matmul, ((2, 9, 20), F), ((2, 20, 32), F)),
    "softmax": lower(lambda x: relax.op.nn.softmax(x, 1), ((2, 7, 16), F)),
    "layer norm": lower(
        lambda x, g, b: relax.op.nn.layer_norm(x, g, b, axes=[-1]), ((3, 4, 32), F), ((32,), F), ((32,), F)
    ),
    "cast": lower(lambda x: relax.op.astype(x, "int32"), ((3, 7), F)),
    "where": lower(relax.op.where, ((4, 8), "bool"), ((4, 8), F), ((4, 8), F)),
    "greater": lower(relax.op.greater, ((4, 8), F), ((1, 8), F)),
    "broadcast": lower(lambda x: relax.op.broadcast_to(x, (4, 3, 16)), ((1, 3, 1), F)),
    "sum of all": lower(lambda x: relax.op.sum(x), ((4, 9), F)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_schedule_keeps_the_values(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opaque, "_PARALLEL_ITERATIONS", 1)
    task = CASES[name]
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(shape).astype(dtype) if dtype == F else rng.integers(0, 2, shape).astype(dtype)
        for shape, dtype in zip(task.shapes, task.dtypes, strict=True)
    ]
    expected = run(task.lowered, task, arrays)
    scheduled, untouched = list(all_variants()["opaque"].candidates(task, MACHINE))
    func = scheduled.prim_func(task, dataclasses.replace(MACHINE, threads=threads))
    np.testing.assert_allclose(run(func, task, arrays), expected, rtol=2e-5, atol=2e-6)
    assert untouched.prim_func(task, MACHINE).same_as(task.lowered)


def test_schedules_are_parallel_and_vectorised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opaque, "_PARALLEL_ITERATIONS", 1)
    machine = dataclasses.replace(MACHINE, threads=2)
    for name in ("permute", "matmul", "softmax", "mean channels", "resize"):
        text = str(opaque.scheduled(CASES[name].lowered, machine))
        assert "T.parallel" in text and "T.vectorized" in text, name


def test_layouts_by_rank() -> None:
    variant = from_knobs("opaque", {"scheduled": True})
    assert variant.layouts(CASES["mean"]) == Layouts(("NCHW",), "plain")
    assert variant.layouts(CASES["take"]) == Layouts(("plain", "plain"), "plain")


def test_a_task_without_its_lowering_says_so() -> None:
    task = dataclasses.replace(CASES["mean"], lowered=None)
    with pytest.raises(ValueError, match="carries no lowering"):
        from_knobs("opaque", {"scheduled": True}).prim_func(task, MACHINE)


def test_views_have_no_kernel() -> None:
    task = ViewTask((1, 8, 3, 3), (1, 72))
    (variant,) = all_variants()["view"].candidates(task, MACHINE)
    assert variant.layouts(task) == Layouts(("NCHW",), "plain")
    with pytest.raises(NotImplementedError, match="reshape"):
        variant.prim_func(task, MACHINE)
