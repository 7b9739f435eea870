"""Layout transforms: exact, zero-padded and cropped, for every pair of layouts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tvm
from tvm import relax

from te_kernels import check
from te_kernels.layout import Layout
from te_kernels.task import TransformTask
from te_kernels.transform.transform_tiled import TransformTiled
from te_kernels.variant import Reject, variants_for
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all

BLOCKED = MACHINE.blocked_layout
BLOCK_AND_A_BIT = MACHINE.vector_lanes + 3
PAIRS = list(itertools.permutations(("NCHW", "NHWC", BLOCKED), 2))


@pytest.mark.parametrize(
    "shape", [(1, 32, 8, 8), (2, 35, 7, 7), (1, 3, 9, 11), (1, 20, 2, 3), (3, 5, 1, 1), (1, 1, 5, 5)]
)
def test_every_pair(shape: tuple[int, ...]) -> None:
    for source, destination in PAIRS:
        task = TransformTask(shape, source, destination)
        assert check_all(task), f"no variant for {task}"


@pytest.mark.parametrize(
    "task",
    [
        TransformTask((1, 21, 6, 7), "NCHW", "NCHW8c"),
        TransformTask((1, 21, 6, 7), "NCHW4c", "NCHW"),
        TransformTask((1, 21, 6, 7), "NCHW12c", "NCHW"),
        TransformTask((1, 21, 6, 7), "NCHW", "NCHW12c"),
        TransformTask((1, 70, 4, 4), "NCHW", "NCHW32c"),
        TransformTask((1, 70, 4, 4), "NCHW32c", "NCHW"),
        TransformTask((1, 70, 4, 5), "NCHW32c", "NHWC"),
        TransformTask((1, 70, 4, 5), "NHWC", "NCHW32c"),
        TransformTask((1, 7, 4, 5), "NHWC", "NCHW3c"),
        TransformTask((1, 21, 4, 5), "NCHW8c", "NCHW16c"),
        TransformTask((1, 3, 300, 70), "NCHW", "NHWC"),
        TransformTask((1, 2, 33, 5), "NHWC", "NCHW"),
    ],
    ids=str,
)
def test_unusual_blocks(task: TransformTask) -> None:
    assert check_all(task)


@pytest.mark.parametrize("source", ["NCHW", "NHWC", "NCHW8c"])
def test_padding_is_written_as_zeros(source: str) -> None:
    task = TransformTask((2, BLOCK_AND_A_BIT, 5, 5), source, BLOCKED)
    case = check.make_case(task)
    expected = Layout(BLOCKED).pack(case.inputs[0])
    for cls in variants_for(task, MACHINE):
        try:
            candidates = list(cls.candidates(task, MACHINE))
        except Reject:
            continue
        for variant in candidates:
            args = check.arguments(case, variant)
            tvm.compile(tvm.IRModule({"main": variant.prim_func(task, MACHINE)}), target=TARGET)["main"](*args)
            np.testing.assert_array_equal(args[-1].numpy(), expected)


def test_kernels_run_inside_relax() -> None:
    shape = (1, BLOCK_AND_A_BIT, 9, 9)
    there, back = TransformTask(shape, "NCHW", BLOCKED), TransformTask(shape, BLOCKED, "NCHW")
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            value = x
            for task in (there, back):
                variant = next(iter(TransformTiled.candidates(task, MACHINE)))
                func = variant.prim_func(task, MACHINE).without_attr("global_symbol").with_attr("op_pattern", 8)
                ty = relax.TensorType(Layout(task.destination).physical_shape(shape), "float32")
                value = builder.emit(relax.call_tir(builder.add_func(func, "transform"), [value], ty))
            out = builder.emit_output(value)
        builder.emit_func_output(out)
    machine = relax.VirtualMachine(tvm.compile(builder.get(), target=TARGET), tvm.cpu())
    data = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(data)).numpy(), data)
