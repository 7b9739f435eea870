"""Rows in the padding: left out only where there are any, without a change of results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from te_kernels.conv2d import _weight_prefetch
from te_kernels.conv2d._output_geometry import Tile
from te_kernels.epilogue import Step
from te_kernels.task import ConvTask
from tests.te_kernels.kernel_checks import MACHINE, assert_same_bits, direct_func

LANES = MACHINE.vector_lanes
SAME = (1, 1, 1, 1)


def _branches(task: ConvTask, tile: Tile) -> list[str]:
    """Conditions of the statements ``if`` in the function."""
    text = str(direct_func(task, tile).script())
    return [line.strip() for line in text.splitlines() if line.strip().startswith("if ")]


def test_a_branch_only_where_rows_are_padded() -> None:
    tile = Tile(1, 4, 2, LANES)
    assert len(_branches(ConvTask(1, 16, 12, 12, 2 * LANES, 3, 3, (1, 1), SAME), tile)) == 1
    assert not _branches(ConvTask(1, 16, 12, 12, 2 * LANES, 3, 3, (1, 1)), tile)
    assert not _branches(ConvTask(1, 16, 12, 12, 2 * LANES, 1, 3, (1, 1), (0, 1, 0, 1)), tile)  # columns alone
    (above,) = _branches(ConvTask(1, 16, 14, 14, 2 * LANES, 3, 3, (2, 2), SAME), tile)  # the last row is not padded
    assert "and" not in above
    (both,) = _branches(ConvTask(1, 16, 13, 13, 2 * LANES, 3, 3, (2, 2), SAME), tile)
    assert "and" in both


@pytest.mark.parametrize("layout", ["NHWC", f"NCHW{LANES}c"])
@pytest.mark.parametrize(
    ("task", "tile"),
    [
        (ConvTask(1, 40, 14, 14, 6 * LANES, 3, 3, (2, 2), SAME, epilogue=(Step("relu"),)), Tile(1, 7, 2, LANES)),
        (ConvTask(2, 32, 11, 9, 5 * LANES, 3, 3, (1, 1), SAME, epilogue=(Step("add"),)), Tile(2, 3, 2, LANES)),
        (ConvTask(1, 8, 7, 7, LANES, 5, 5, (1, 1), (2, 2, 2, 2), (2, 2)), Tile(3, 2, 1, LANES)),
        (ConvTask(1, 8, 9, 6, 3 * LANES, 3, 3, (1, 1), (4, 1, 5, 2)), Tile(1, 4, 1, LANES)),  # rows of padding alone
        (ConvTask(1, 32, 19, 21, 3 * LANES, 3, 1, (2, 3), (0, 1, 2, 0)), Tile(1, 4, 1, LANES)),
        (ConvTask(1, 4 * LANES, 10, 10, 4 * LANES, 3, 3, (1, 1), SAME, groups=2), Tile(1, 5, 1, LANES)),
    ],
    ids=str,
)
def test_results_are_the_same_bits(task: ConvTask, tile: Tile, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if layout != "NHWC" and task.c % LANES:
        task = replace(task, c=LANES)
    without = direct_func(task, tile, layout)
    monkeypatch.setattr(_weight_prefetch, "without_padding_rows", lambda loop, _: loop)
    assert_same_bits(without, direct_func(task, tile, layout))
