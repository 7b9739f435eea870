"""A channel shuffle and the grouped 1x1 convolution behind it by one kernel, against the float64 oracle."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.conv2d_pair.shuffle_pointwise_nhwc import ShufflePointwiseNHWC
from te_kernels.epilogue import Epilogue, Step
from te_kernels.task import ConvTask, PairTask, ShuffleTask
from te_kernels.variant import Reject
from tests.te_kernels.kernel_checks import MACHINE, built, check_all, error_of

LANES = MACHINE.vector_lanes
BIAS = (Step("bias"),)


def pair(c: int, k: int, h: int, w: int, shuffled: int, groups: int, n: int = 1, epilogue: Epilogue = BIAS) -> PairTask:
    second = ConvTask(n, c, h, w, k, 1, 1, groups=groups, epilogue=epilogue)
    return PairTask(ShuffleTask((n, c, h, w), shuffled), second)


@pytest.mark.parametrize(
    "task",
    [
        pair(136, 136, 5, 7, 4, 4),  # runs of 8 and 9 channels
        pair(272, 272, 4, 4, 4, 4, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        pair(24, 6 * LANES, 6, 5, 3, 2, n=2),
        pair(16, 2 * LANES + 3, 3, 3, 2, 1, epilogue=()),
        pair(12, 4 * LANES, 3, 5, 6, 4, epilogue=(Step("silu"),)),  # groups with fewer channels than runs
    ],
    ids=str,
)
def test_matches_oracle(task: PairTask) -> None:
    assert check_all(task)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    """Channels, groups of both and tiles at random."""
    draw = data.draw
    shuffled, groups = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    c = shuffled * groups * draw(st.integers(1, 6))
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    task = pair(c, groups * (LANES + draw(st.integers(0, 2 * LANES))), h, w, shuffled, groups, draw(st.integers(1, 2)))
    vectors = -(-task.second.k // groups // LANES)
    variant = ShufflePointwiseNHWC(draw(st.integers(1, min(h * w, 8))), draw(st.integers(1, vectors)), LANES)
    assert error_of(task, variant) <= variant.error_bound(task)


def test_threads_share_the_work() -> None:
    machine = dataclasses.replace(MACHINE, threads=2)
    task = pair(136, 136, 7, 7, 4, 4)
    case = check.make_case(task)
    for variant in ShufflePointwiseNHWC.candidates(task, machine):
        args = check.arguments(case, variant)
        built(variant.prim_func(task, machine))["main"](*args)
        assert check.relative_error(case, variant, args) <= variant.error_bound(task)


def test_where_it_applies() -> None:
    grouped = pair(24, 4 * LANES, 4, 4, 3, 2)
    for task, reason in (
        (PairTask(ConvTask(1, 24, 4, 4, 24, 1, 1), grouped.second), "no channel shuffle"),
        (PairTask(grouped.first, ConvTask(1, 24, 4, 4, 4 * LANES, 3, 3)), "not 1x1"),
        (pair(24, 24, 4, 4, 3, 24), "not 1x1"),
        (pair(24, 2 * (LANES - 1), 4, 4, 3, 2), "less than one vector"),
        (pair(40, 4 * LANES, 4, 4, 20, 2), "too many runs"),
    ):
        with pytest.raises(Reject, match=reason):
            list(ShufflePointwiseNHWC.candidates(task, MACHINE))
