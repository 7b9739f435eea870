"""Pointwise convolutions over flat pixels on maps whose tiles do not divide into L2-sized blocks."""

from __future__ import annotations

import pytest

from te_kernels.task import ConvTask
from tests.te_kernels.kernel_checks import check_all


@pytest.mark.parametrize(("c", "size", "k"), [(64, 55, 16), (256, 27, 32), (512, 27, 16), (96, 13, 48)])
def test_flat_blocks(c: int, size: int, k: int) -> None:
    assert check_all(ConvTask(1, c, size, size, k, 1, 1), ["direct_nchwc", "direct_nhwc"])
