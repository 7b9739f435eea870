"""Pooling against the float64 oracle."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

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
        (1, 3 * V, 13, 20 * V, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1)),  # loops over vectors and rows, borders apart
        (1, 36 * V, 14, 14, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1)),  # NHWC passes with a part of the channels
        (1, 64 * V, 7, 7, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1)),  # pixels of NHWC compete for few sets of L1
        (1, V + 1, 13, 13, 13, 13, (1, 1), (6, 6, 6, 6), (1, 1)),  # more border rows than get code of their own
        (2, 2, 3, 2 * V + 9, 2, 17, (1, 1), (1, 8, 0, 8), (1, 1)),  # wider than what is written out
        (1, V, 6, 6, 7, 7, (1, 1), (0, 0, 1, 1), (1, 1)),  # one output that is not quite the whole map
        (1, 5, 30, 1, 3, 1, (2, 1), (1, 0, 1, 0), (1, 1)),  # maps of one column
        (1, V, 4, 3, 2, 2, (1, 1), (2, 2, 2, 2), (1, 1)),  # windows that lie in the padding altogether
    ],
)
def test_windows(mode: str, n: int, c: int, h: int, w: int, r: int, s: int, stride: tuple[int, int],
                 pad: tuple[int, int, int, int], dilation: tuple[int, int]) -> None:  # fmt: skip
    if mode == "max" and pad[0] >= r:
        pytest.skip("the maximum of no elements is not defined")
    task = PoolTask(mode, n, c, h, w, r, s, stride, pad, dilation, "window", STEPS if h == 14 else ())
    assert len(check_all(task)) == 3
    if mode == "avg" and pad[0] < r:
        assert len(check_all(PoolTask(mode, n, c, h, w, r, s, stride, pad, dilation, "valid"))) == 3


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_windows(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    (h, w), (r, s), stride, dilation = pair(1, 3 * V), pair(1, 5), pair(1, 4), pair(1, 2)
    reach = ((r - 1) * dilation[0], (s - 1) * dilation[1])
    pad = tuple(data.draw(st.integers(0, (reach[i % 2] + 1) // 2)) for i in range(4))
    assume(h + pad[0] + pad[2] > reach[0] and w + pad[1] + pad[3] > reach[1])
    c, mode = data.draw(st.sampled_from([1, V, 2 * V + 3])), data.draw(st.sampled_from(BOTH))
    check_all(PoolTask(mode, 2, c, h, w, r, s, stride, pad, dilation, data.draw(st.sampled_from(["window", "valid"]))))


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize(("n", "c", "h", "w"), [(1, 2 * V, 7, 7), (2, V + 3, 5, 9), (1, 9 * V + 5, 3, 2), (1, 3, 1, 4)])
def test_global(mode: str, n: int, c: int, h: int, w: int) -> None:
    task = PoolTask(mode, n, c, h, w, h, w, (1, 1), epilogue=STEPS)
    assert task.is_global
    assert len(check_all(task)) == 3
