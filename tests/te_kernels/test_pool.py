"""Pooling against the float64 oracle."""

from __future__ import annotations

import pytest

from te_kernels.epilogue import Step
from te_kernels.task import PoolTask
from tests.te_kernels.kernel_checks import MACHINE, check_all

V = MACHINE.vector_lanes
STEPS = (Step("scale"), Step("bias"), Step("add"), Step("relu"))
BOTH = ("max", "avg")


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize(
    ("n", "c", "h", "w", "r", "s", "stride", "pad", "dilation"),
    [
        (1, 2 * V, 14, 14, 3, 3, (2, 2), (1, 1, 1, 1), (1, 1)),
        (2, V + 3, 13, 11, 3, 2, (2, 1), (0, 0, 1, 1), (1, 1)),
        (1, 3, 9, 40, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1)),
        (1, V, 8, 67, 2, 2, (2, 2), (0, 0, 0, 0), (1, 1)),
        (1, 5 * V + 1, 7, 7, 3, 3, (1, 1), (2, 2, 2, 2), (2, 2)),
        (1, V, 6, 50, 3, 5, (3, 3), (1, 2, 0, 2), (1, 2)),
        (1, 4, 5, 5, 2, 2, (1, 1), (0, 0, 0, 0), (1, 1)),
    ],
)
def test_windows(mode: str, n: int, c: int, h: int, w: int, r: int, s: int, stride: tuple[int, int],
                 pad: tuple[int, int, int, int], dilation: tuple[int, int]) -> None:  # fmt: skip
    task = PoolTask(mode, n, c, h, w, r, s, stride, pad, dilation, "window", STEPS if h == 14 else ())
    assert len(check_all(task)) == 3
    if mode == "avg":
        assert len(check_all(PoolTask(mode, n, c, h, w, r, s, stride, pad, dilation, "valid"))) == 3


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize(("n", "c", "h", "w"), [(1, 2 * V, 7, 7), (2, V + 3, 5, 9), (1, 9 * V + 5, 3, 2), (1, 3, 1, 4)])
def test_global(mode: str, n: int, c: int, h: int, w: int) -> None:
    task = PoolTask(mode, n, c, h, w, h, w, (1, 1), epilogue=STEPS)
    assert task.is_global
    assert len(check_all(task)) == 3
