"""A convolution by minimal filtering and the max pool behind it by one kernel, against the float64 oracle."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.conv2d_pair._winograd_pool_variant import WinogradPoolVariant
from te_kernels.conv2d_pair.winograd_pool_nchw_nchwc import WinogradPoolNCHWtoNCHWc
from te_kernels.conv2d_pair.winograd_pool_nchw_nhwc import WinogradPoolNCHWtoNHWC
from te_kernels.conv2d_pair.winograd_pool_nchwc import WinogradPoolNCHWc
from te_kernels.conv2d_pair.winograd_pool_nchwc_nhwc import WinogradPoolNCHWcToNHWC
from te_kernels.conv2d_pair.winograd_pool_nhwc import WinogradPoolNHWC
from te_kernels.conv2d_pair.winograd_pool_nhwc_nchwc import WinogradPoolNHWCToNCHWc
from te_kernels.epilogue import Epilogue, Step
from te_kernels.task import ConvTask, PairTask, PoolTask
from te_kernels.variant import Reject
from tests.te_kernels.kernel_checks import MACHINE, built, check_all, error_of

LANES, BLOCKED = MACHINE.vector_lanes, MACHINE.blocked_layout
RELU = (Step("bias"), Step("relu"))
OF_CHANNELS: dict[type[WinogradPoolVariant], tuple[str, str]] = {
    WinogradPoolNCHWc: (BLOCKED, BLOCKED),
    WinogradPoolNHWC: ("NHWC", "NHWC"),
    WinogradPoolNCHWcToNHWC: (BLOCKED, "NHWC"),
    WinogradPoolNHWCToNCHWc: ("NHWC", BLOCKED),
}
OF_PHASES: dict[type[WinogradPoolVariant], tuple[str, str]] = {
    WinogradPoolNCHWtoNCHWc: ("NCHW", BLOCKED),
    WinogradPoolNCHWtoNHWC: ("NCHW", "NHWC"),
}


def pooled(conv: ConvTask, window: int = 3, stride: int = 2, pad: tuple[int, int, int, int] = (1, 1, 1, 1)) -> PairTask:
    return PairTask(conv, PoolTask("max", conv.n, conv.k, conv.oh, conv.ow, window, window, (stride, stride), pad))


def conv(
    c: int, k: int, h: int, w: int, r: int = 3, stride: int = 1, n: int = 1, epilogue: Epilogue = RELU
) -> ConvTask:
    return ConvTask(n, c, h, w, k, r, r, (stride, stride), (r // 2,) * 4, epilogue=epilogue)


@pytest.mark.parametrize(
    "task",
    [
        pooled(conv(3, 2 * LANES, 30, 34, r=7, stride=2)),
        pooled(conv(LANES, 2 * LANES, 16, 13), 2, 2, (0, 0, 0, 0)),
        pooled(conv(2 * LANES, LANES, 11, 18, n=2), 3, 2, (0, 0, 1, 1)),
        pooled(conv(LANES, 3 * LANES, 9, 9, epilogue=(Step("scale"), Step("bias"), Step("silu"))), 3, 1),
        pooled(conv(LANES, LANES + 3, 14, 14, epilogue=()), 3, 3, (0, 0, 0, 0)),  # blocked results only
        pooled(conv(1, LANES, 20, 20, r=5), 2, 3, (0, 1, 0, 0)),
    ],
    ids=str,
)
def test_matches_oracle(task: PairTask) -> None:
    assert check_all(task)


def variant_of(
    cls: type[WinogradPoolVariant], task: PairTask, tile: int, vectors: int, rows: int, chunk: int, m: int, n: int,
    columns: int,
) -> WinogradPoolVariant:  # fmt: skip
    assert isinstance(task.first, ConvTask)
    block = rows * -(-task.first.ow // n)
    layouts = (OF_CHANNELS | OF_PHASES)[cls]
    return cls(*layouts, min(tile, block), vectors, LANES, block, chunk, m, n, columns)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    """Sizes, windows, strides, padding and blockings at random; two and three threads' bands as well."""
    draw = data.draw
    cls = draw(st.sampled_from([*OF_CHANNELS, *OF_PHASES]))
    h, w, k = draw(st.integers(5, 20)), draw(st.integers(5, 20)), LANES * draw(st.integers(1, 3))
    n = draw(st.integers(1, 2))
    if cls in OF_PHASES:
        first = conv(draw(st.integers(1, 4)), k, 2 * h, 2 * w, draw(st.sampled_from([5, 7])), 2, n)
    else:
        first = conv(draw(st.integers(LANES // 2, 2 * LANES)), k, h, w, n=n)
    window = draw(st.integers(1, 3))
    pad = tuple(draw(st.integers(0, window - 1)) for _ in range(4))
    task = pooled(first, window, draw(st.integers(1, 3)), pad)
    m, columns = draw(st.integers(2, 4)), draw(st.integers(1, min(task.second.ow, 5)))
    tile_rows = -(-first.oh // m)
    rows = draw(st.sampled_from([r for r in range(1, tile_rows + 1) if n == 1 or tile_rows % r == 0]))
    vectors = draw(st.integers(1, 2))
    chunk = draw(st.integers(1, -(-k // LANES // vectors)))
    variant = variant_of(cls, task, draw(st.integers(1, 9)), vectors, rows, chunk, m, draw(st.integers(2, 4)), columns)
    case = check.make_case(task)
    machine = dataclasses.replace(MACHINE, threads=draw(st.integers(1, 3)))
    args = check.arguments(case, variant)
    built(variant.prim_func(task, machine))["main"](*args)
    assert check.relative_error(case, variant, args) <= variant.error_bound(task)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_work(threads: int) -> None:
    """Windows that reach over the border between two threads have the maximum of both sides, again and again."""
    machine = dataclasses.replace(MACHINE, threads=threads)
    for task in (pooled(conv(3, 2 * LANES, 56, 56, r=7, stride=2)), pooled(conv(LANES, 4 * LANES, 15, 15), 3, 1)):
        case = check.make_case(task)
        tried = 0
        for cls in OF_CHANNELS | OF_PHASES:
            try:
                found = list(cls.candidates(task, machine))
            except Reject:
                continue
            for variant in found:
                args = check.arguments(case, variant)
                kernel = built(variant.prim_func(task, machine))["main"]
                for _ in range(3):
                    kernel(*args)
                assert check.relative_error(case, variant, args) <= variant.error_bound(task)
                tried += 1
        assert tried


def test_blocks_are_whole_rows_that_no_window_reaches_over() -> None:
    for task in (pooled(conv(3, 64, 224, 224, r=7, stride=2)), pooled(conv(64, 64, 112, 112, n=3), 2, 2, (0,) * 4),
                 pooled(conv(LANES, LANES, 24, 24), 9, 4, (4,) * 4)):  # fmt: skip
        for cls in OF_CHANNELS | OF_PHASES:
            try:
                found = list(cls.candidates(task, MACHINE))
            except Reject:
                continue
            assert 1 <= len(found) <= 4
            for variant in found:
                geometry = variant.geometry(task)
                assert geometry.conv.blocking.block % geometry.conv.tile_columns == 0
                assert geometry.block_rows >= task.second.r - 1
                assert task.first.n == 1 or geometry.conv.tile_rows * geometry.conv.tile_columns % variant.block == 0


def test_where_it_applies() -> None:
    task = pooled(conv(LANES, LANES, 12, 12))
    first, pool = task.first, task.second
    assert isinstance(first, ConvTask) and isinstance(pool, PoolTask)
    for other, reason in (
        (PairTask(first, dataclasses.replace(pool, mode="avg")), "max pool"),
        (PairTask(first, dataclasses.replace(pool, epilogue=(Step("relu"),))), "max pool"),
        (PairTask(first, conv(LANES, LANES, 12, 12)), "not a convolution and a pool"),
        (pooled(dataclasses.replace(first, groups=2)), "groups"),
        (pooled(conv(LANES // 2 - 1, LANES, 12, 12)), "less than half a vector"),
        (pooled(conv(LANES, LANES, 12, 12, r=9)), "no minimal filtering"),
        (pooled(conv(LANES, LANES + 1, 12, 12)), "no whole vectors"),
    ):
        with pytest.raises(Reject, match=reason):
            list(WinogradPoolNHWC.candidates(other, MACHINE))
    with pytest.raises(Reject, match="other variants take more"):
        list(WinogradPoolNCHWtoNHWC.candidates(task, MACHINE))


def test_error_of_every_layout_is_the_same() -> None:
    """The arithmetic does not depend on where things lie."""
    task = pooled(conv(LANES, 2 * LANES, 13, 13))
    errors = {error_of(task, variant_of(cls, task, 4, 1, 2, 1, 4, 3, 3)) for cls in OF_CHANNELS}
    assert len(errors) == 1 and max(errors) > 0
