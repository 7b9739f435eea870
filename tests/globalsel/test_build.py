"""Kernels are compiled once in a process, whoever asks for them, and never taken for one another."""

from __future__ import annotations

import numpy as np
import tvm

from te_kernels.machine import describe, host_target
from te_kernels.task import TransformTask
from tvm_globalsel.build_kernels import compile_kernels
from tvm_globalsel.candidates import candidates_for

TARGET = host_target(1)
MACHINE = describe(TARGET, 1)


def _function(shape: tuple[int, ...]) -> tvm.tirx.PrimFunc:
    task = TransformTask(shape, "NCHW", "NHWC")
    variant = candidates_for(task, MACHINE).variants[0]
    return variant.prim_func(task, MACHINE).with_attr("global_symbol", "kernel")


def test_equal_kernels_are_compiled_once() -> None:
    first, other = _function((1, 3, 5, 7)), _function((1, 3, 5, 8))
    name = tvm.ir.GlobalVar("kernel")
    (one,) = compile_kernels({name: first}, TARGET)
    (again,) = compile_kernels({name: _function((1, 3, 5, 7))}, TARGET)
    (different,) = compile_kernels({name: other}, TARGET)
    assert one.same_as(again) and not one.same_as(different)
    for library, width in ((one, 7), (different, 8)):
        data = np.random.default_rng(0).standard_normal((1, 3, 5, width)).astype("float32")
        out = tvm.runtime.empty((1, 5, width, 3))
        library["kernel"](tvm.runtime.tensor(data), out)
        np.testing.assert_array_equal(out.numpy(), data.transpose(0, 2, 3, 1))
    assert compile_kernels({}, TARGET) == []
