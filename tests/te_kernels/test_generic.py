"""Operators that are neither convolution, pooling nor dense, against the float64 oracle."""

from __future__ import annotations

import pytest

from te_kernels.epilogue import Step
from te_kernels.task import ConcatTask, EltwiseTask, LrnTask, ShuffleTask, SoftmaxTask, Task
from tests.te_kernels.kernel_checks import MACHINE, check_all

V = MACHINE.vector_lanes
AFFINE = (Step("scale"), Step("bias"), Step("relu"))
ADD = (Step("add"), Step("relu"))


@pytest.mark.parametrize(
    "task",
    [
        EltwiseTask((1, 2 * V, 8, 8), ADD),
        EltwiseTask((2, V + 3, 5, 7), AFFINE),
        EltwiseTask((2, V + 3, 5, 7), (Step("mul"), Step("silu"), Step("bias"), Step("add"))),
        EltwiseTask((1, 3, 9, 11), (Step("hardswish"),)),
        EltwiseTask((3, 50), AFFINE),
        EltwiseTask((2, 5, 19), (Step("bias"), Step("tanh"))),
        EltwiseTask((2, 5, 3, 2, 7), (Step("scale"), Step("add"))),
        EltwiseTask((37,), (Step("relu"),)),
        EltwiseTask((1, V, 1, 1), AFFINE),
        ConcatTask(1, (V, 2 * V), 6, 7),
        ConcatTask(2, (V + 4, 3, 2 * V + 1), 5, 7),
        ConcatTask(2, (V + 4, 3, 2 * V + 1), 5, 7, AFFINE),
        ConcatTask(1, (2, 3, 1), 5, 1, ADD),
        ConcatTask(1, (5,), 3, 3),
        ConcatTask(1, (V, V // 2, V // 2, V), 3, 3, (Step("bias"), Step("add"))),
        ShuffleTask((1, 4 * V, 4, 5), 2),
        ShuffleTask((2, 30, 5, 7), 3),
        ShuffleTask((1, 4 * V + 8, 7, 7), 4),
        ShuffleTask((1, 24, 2, 2), 12),
        ShuffleTask((1, 6, 3, 3), 6),
    ],
    ids=str,
)
def test_data_movement(task: Task) -> None:
    rank4 = len(task.output_shape) == 4
    assert len(check_all(task)) == (3 if rank4 else 1)


@pytest.mark.parametrize(
    "task",
    [
        LrnTask((1, 3 * V, 5, 7), 5, 1e-1, 0.75, 1.0),
        LrnTask((2, V + 3, 5, 5), 5, 2.0, 0.75, 1.0, AFFINE),
        LrnTask((1, 5 * V + 1, 3, 6), 4, 1.0, 0.6, 2.0, (Step("add"),)),
        LrnTask((1, 2, 4, 4), 5, 1.0, 0.5, 2.0),
        LrnTask((1, 2 * V, 4, 4), 3, 1.0, 1.0, 1.0),
        LrnTask((1, 4 * V, 2, 2), 1, 1.0, 0.75, 1.0),
    ],
    ids=str,
)
def test_lrn(task: LrnTask) -> None:
    assert len(check_all(task)) == 3


@pytest.mark.parametrize(
    ("task", "layouts"),
    [
        (SoftmaxTask((2, 1000), 1), 1),
        (SoftmaxTask((3, 7), 0), 1),
        (SoftmaxTask((2, 5, 37), 2), 1),
        (SoftmaxTask((2, 19, 100), 1), 1),
        (SoftmaxTask((33,), 0), 1),
        (SoftmaxTask((1, 2, 3, 4, 9), 3), 1),
        (SoftmaxTask((1, V + 5, 1, 1), 1), 2),
        (SoftmaxTask((2, V + 5, 7, 9), 1), 2),
        (SoftmaxTask((2, V + 5, 7, 9), 3), 3),
        (SoftmaxTask((3, V + 5, 5, 3), 0), 3),
    ],
    ids=str,
)
def test_softmax(task: SoftmaxTask, layouts: int) -> None:
    assert len(check_all(task)) == layouts
