"""A first layer and the pool or depthwise convolution behind it by one kernel, against the float64 oracle."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.conv2d_pair._first_layer import FirstLayerVariant
from te_kernels.conv2d_pair.direct_depthwise_nchw_nchwc import DirectDepthwiseNCHWtoNCHWc
from te_kernels.conv2d_pair.direct_depthwise_nchw_nhwc import DirectDepthwiseNCHWtoNHWC
from te_kernels.conv2d_pair.direct_pool_nchw_nchwc import DirectPoolNCHWtoNCHWc
from te_kernels.conv2d_pair.direct_pool_nchw_nhwc import DirectPoolNCHWtoNHWC
from te_kernels.epilogue import Epilogue, Step
from te_kernels.task import ConvTask, PairTask, PoolTask
from te_kernels.variant import Reject
from tests.te_kernels.kernel_checks import MACHINE, built, check_all, error_of

LANES, BLOCKED = MACHINE.vector_lanes, MACHINE.blocked_layout
RELU = (Step("bias"), Step("relu"))
Pad = tuple[int, int, int, int]
POOLS: dict[type[FirstLayerVariant], str] = {DirectPoolNCHWtoNCHWc: BLOCKED, DirectPoolNCHWtoNHWC: "NHWC"}
DEPTHWISE: dict[type[FirstLayerVariant], str] = {
    DirectDepthwiseNCHWtoNCHWc: BLOCKED,
    DirectDepthwiseNCHWtoNHWC: "NHWC",
}


def first(
    c: int, k: int, h: int, w: int, r: int = 3, stride: int = 2, n: int = 1, epilogue: Epilogue = RELU,
    pad: Pad | None = None,
) -> ConvTask:  # fmt: skip
    return ConvTask(n, c, h, w, k, r, r, (stride, stride), pad or (r // 2,) * 4, epilogue=epilogue)


def pooled(one: ConvTask, window: int = 3, stride: int = 2, pad: Pad = (0, 0, 0, 0), dilation: int = 1) -> PairTask:
    sizes = (one.n, one.k, one.oh, one.ow, window, window)
    return PairTask(one, PoolTask("max", *sizes, (stride, stride), pad, (dilation, dilation)))


def depthwise(one: ConvTask, r: int = 3, stride: int = 1, epilogue: Epilogue = RELU) -> PairTask:
    sizes = (one.n, one.k, one.oh, one.ow, one.k, r, r)
    return PairTask(one, ConvTask(*sizes, (stride, stride), (r // 2,) * 4, (1, 1), one.k, epilogue))


@pytest.mark.parametrize(
    "task",
    [
        pooled(first(3, 2 * LANES, 23, 31)),
        pooled(first(3, 4 * LANES, 21, 25, pad=(0, 0, 0, 0), n=2)),
        pooled(first(3, LANES + 8, 20, 20), 3, 2, (1, 1, 1, 1)),  # blocked results only
        pooled(first(1, LANES, 17, 12, r=5, stride=1, n=2, epilogue=(Step("bias"), Step("silu"))), 2, 2),
        pooled(first(4, LANES, 30, 30, r=11, stride=4, pad=(2, 2, 1, 0)), 2, 3),  # rows that no window reads
        pooled(first(2, LANES, 16, 16, epilogue=(), r=1, stride=3), 3, 1, (1, 1, 1, 1)),
        depthwise(first(3, 2 * LANES, 18, 26)),
        depthwise(first(3, LANES, 18, 14, n=2, pad=(0, 0, 1, 1)), 5, 2, (Step("bias"), Step("add"), Step("relu"))),
    ],
    ids=str,
)
def test_matches_oracle(task: PairTask) -> None:
    assert check_all(task)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    """Sizes, padding, strides, bands and tiles at random."""
    draw = data.draw
    r = draw(st.sampled_from([1, 2, 3, 5, 7]))
    h, w = (draw(st.integers(r, r + 14)) for _ in range(2))
    pad = draw(st.sampled_from([(0, 0, 0, 0), tuple(draw(st.integers(0, 2)) for _ in range(4))]))
    one = first(draw(st.integers(1, 4)), LANES * draw(st.integers(1, 3)), h, w, r, draw(st.integers(1, 4)),
                draw(st.integers(1, 2)), pad=pad)  # fmt: skip
    window, stride = draw(st.integers(1, min(3, one.oh, one.ow))), draw(st.integers(1, 3))
    if draw(st.booleans()):
        task, classes = pooled(one, window, stride, tuple(draw(st.integers(0, window - 1)) for _ in range(4))), POOLS
    else:
        task, classes = depthwise(one, window, stride), DEPTHWISE
    vectors = draw(st.sampled_from([v for v in (1, 2, 3) if one.k // LANES % v == 0]))
    knobs = draw(st.integers(1, min(one.ow, 7))), vectors, draw(st.integers(1, min(task.second.ow, 7)))
    cls = draw(st.sampled_from(list(classes)))
    variant = cls("NCHW", classes[cls], *knobs, LANES, draw(st.integers(1, task.second.oh)))
    assert error_of(task, variant) <= variant.error_bound(task)


def test_threads_share_the_work() -> None:
    """Of three chunks for two threads one would have two: the rows are dealt instead."""
    machine = dataclasses.replace(MACHINE, threads=2)
    one = first(3, 3 * LANES, 40, 40)
    for task, classes in ((pooled(one), POOLS), (depthwise(one), DEPTHWISE)):
        case = check.make_case(task)
        for cls in classes:
            for variant in cls.candidates(task, machine):
                args = check.arguments(case, variant)
                built(variant.prim_func(task, machine))["main"](*args)
                assert check.relative_error(case, variant, args) <= variant.error_bound(task)


def test_where_it_applies() -> None:
    one = first(3, 2 * LANES, 24, 24)
    task = pooled(one)
    assert isinstance(task.second, PoolTask)
    for other, reason in (
        (PairTask(one, dataclasses.replace(task.second, mode="avg")), "not a max pool"),
        (PairTask(one, dataclasses.replace(task.second, epilogue=(Step("relu"),))), "not a max pool"),
        (depthwise(one), "not a max pool"),
        (pooled(one, 7, 1), "7x7"),
        (pooled(first(5, LANES, 24, 24)), "5 input channels"),
        (pooled(dataclasses.replace(one, dilation=(2, 2))), "dilation"),
        (pooled(first(3, LANES, 40, 40, r=13)), "13 taps"),
        (pooled(first(3, LANES + 1, 24, 24)), "no whole vectors"),
    ):
        with pytest.raises(Reject, match=reason):
            list(DirectPoolNCHWtoNHWC.candidates(other, MACHINE))
    with pytest.raises(Reject, match="not depthwise"):
        list(DirectDepthwiseNCHWtoNHWC.candidates(task, MACHINE))
