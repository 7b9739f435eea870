"""Direct convolutions against the float64 oracle."""

from __future__ import annotations

import pytest

from te_kernels.epilogue import Step
from te_kernels.task import ConvTask
from tests.te_kernels.kernel_checks import check_all

DIRECT = [
    "direct_nchwc",
    "direct_nhwc",
    "direct_nchw_nchwc",
    "direct_nhwc_nchwc",
    "direct_nchwc_nhwc",
    "direct_nchw_nhwc",
]
RELU = (Step("bias"), Step("relu"))


@pytest.mark.parametrize(
    "task",
    [
        ConvTask(1, 3, 23, 19, 20, 7, 7, (2, 2), (3, 3, 3, 3), epilogue=RELU),
        ConvTask(2, 24, 9, 13, 40, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(1, 33, 13, 13, 48, 1, 1, epilogue=(Step("scale"), Step("bias"), Step("clip", (0.0, 6.0)))),
        ConvTask(1, 32, 14, 14, 64, 1, 1, (2, 2)),
        ConvTask(1, 16, 11, 10, 17, 3, 5, (2, 1), (0, 2, 1, 1), (1, 2)),
        ConvTask(1, 24, 8, 8, 20, 3, 3, (1, 1), (1, 1, 1, 1), groups=2),
        ConvTask(1, 6, 5, 5, 24, 3, 3, (1, 1), (1, 1, 1, 1), groups=2),
        ConvTask(1, 32, 7, 7, 64, 3, 3, (1, 1), (1, 1, 1, 1), groups=2, epilogue=RELU),
        ConvTask(1, 8, 1, 30, 16, 1, 7, (1, 1), (0, 3, 0, 3)),
    ],
    ids=str,
)
def test_direct_matches_oracle(task: ConvTask) -> None:
    assert check_all(task, DIRECT)
