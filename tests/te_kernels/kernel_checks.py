"""Build a variant for a task, run it on seeded data and return its relative error; shared by the kernel tests."""

from __future__ import annotations

import dataclasses

import numpy as np
import tvm

from te_kernels import check
from te_kernels.conv2d import _output_stationary
from te_kernels.conv2d._output_geometry import Geometry, Tile
from te_kernels.machine import Machine, describe, host_target
from te_kernels.task import ConvTask, Task
from te_kernels.variant import Layouts, Reject, Variant, variants_for

TARGET = host_target(1)
MACHINE: Machine = describe(TARGET, 1)


def built(func: tvm.tirx.PrimFunc) -> tvm.runtime.Executable:
    """A function as the ``main`` of a library."""
    return tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=TARGET)


def direct_func(task: ConvTask, tile: Tile, layout: str = "NHWC", threads: int = 1) -> tvm.tirx.PrimFunc:
    """The direct convolution with one register tile, from and to one layout."""
    layouts = Layouts((layout,) * len(task.input_shapes), layout)
    return _output_stationary.prim_func(Geometry(task, tile), layouts, dataclasses.replace(MACHINE, threads=threads))


def error_of(task: Task, variant: Variant, case: check.Case | None = None) -> float:
    """Relative error of ``variant`` on ``task`` against the float64 oracle. Its ``packed_bytes`` are checked too."""
    module = built(variant.prim_func(task, MACHINE))
    case = case or check.make_case(task)
    args = check.arguments(case, variant)
    packed = args[len(variant.layouts(task).inputs) : -1]
    assert variant.packed_bytes(task) in (None, sum(array.numpy().nbytes for array in packed))
    module["main"](*args)
    return check.relative_error(case, variant, args)


def check_all(task: Task, names: list[str] | None = None) -> list[str]:
    """Every candidate of every variant (or of those named) that applies to ``task`` meets its own error bound.

    Returns the labels of the candidates that were checked.
    """
    checked = []
    case = check.make_case(task)
    for cls in variants_for(task, MACHINE):
        name = cls.name
        if names is not None and name not in names:
            continue
        try:
            candidates = list(cls.candidates(task, MACHINE))
        except Reject as reason:
            assert str(reason).strip(), f"{name} rejects {task} without a reason"
            continue
        for variant in candidates:
            error = error_of(task, variant, case)
            assert error <= variant.error_bound(task), f"{variant.label} on {task}: relative error {error:.2e}"
            checked.append(variant.label)
    return checked


def assert_same_bits(first: tvm.tirx.PrimFunc, second: tvm.tirx.PrimFunc) -> None:
    """Two functions of the same parameters, the last of them the output, give the same on seeded data."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal([int(size) for size in param.shape]).astype(np.float32) for param in first.params]
    results = []
    for func in (first, second):
        tensors = [tvm.runtime.tensor(array) for array in arrays]
        built(func)["main"](*tensors)
        results.append(tensors[-1].numpy())
    assert np.array_equal(*results)
    assert not np.array_equal(results[0], arrays[-1])
