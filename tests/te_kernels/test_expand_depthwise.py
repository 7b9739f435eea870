"""A 1x1 convolution and the depthwise one behind it by one kernel, against the float64 oracle."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.conv2d_pair import _row_ring_model as model
from te_kernels.conv2d_pair._expand_depthwise import ExpandDepthwiseVariant
from te_kernels.conv2d_pair._pointwise_rows import PointwiseRows
from te_kernels.conv2d_pair._row_ring_geometry import Geometry
from te_kernels.conv2d_pair.expand_depthwise_nchwc import ExpandDepthwiseNCHWc
from te_kernels.conv2d_pair.expand_depthwise_nchwc_nhwc import ExpandDepthwiseNCHWcToNHWC
from te_kernels.conv2d_pair.expand_depthwise_nhwc import ExpandDepthwiseNHWC
from te_kernels.conv2d_pair.expand_depthwise_nhwc_nchwc import ExpandDepthwiseNHWCToNCHWc
from te_kernels.epilogue import Epilogue, Step
from te_kernels.task import ConvTask, PairTask
from te_kernels.variant import Reject
from tests.te_kernels.kernel_checks import MACHINE, built, check_all, error_of

LANES = MACHINE.vector_lanes
RELU6 = (Step("bias"), Step("clip", (0.0, 6.0)))
EVERY: dict[type[ExpandDepthwiseVariant], tuple[str, str]] = {
    ExpandDepthwiseNHWC: ("NHWC", "NHWC"),
    ExpandDepthwiseNCHWc: (MACHINE.blocked_layout, MACHINE.blocked_layout),
    ExpandDepthwiseNHWCToNCHWc: ("NHWC", MACHINE.blocked_layout),
    ExpandDepthwiseNCHWcToNHWC: (MACHINE.blocked_layout, "NHWC"),
}


def pair(
    c: int, k: int, h: int, w: int, r: int = 3, stride: int = 1, n: int = 1, first: Epilogue = RELU6,
    second: Epilogue = RELU6, pad: tuple[int, int, int, int] | None = None, dilation: int = 1,
) -> PairTask:  # fmt: skip
    pads = pad if pad is not None else (r // 2 * dilation,) * 4
    return PairTask(
        ConvTask(n, c, h, w, k, 1, 1, epilogue=first),
        ConvTask(n, k, h, w, k, r, r, (stride, stride), pads, (dilation, dilation), k, second),
    )


@pytest.mark.parametrize(
    "task",
    [
        pair(24, 144, 14, 14),
        pair(16, 96, 28, 28, stride=2),
        pair(10, 3 * LANES, 9, 7, n=2, second=(Step("bias"), Step("add"), Step("relu"))),
        pair(5, 2 * LANES + 3, 11, 13, r=5),  # channels that are no whole vectors: blocked results only
        pair(LANES + 1, LANES, 8, 8, first=(Step("silu"),), second=()),
        pair(8, LANES, 12, 12, first=(), second=(Step("scale"), Step("bias"), Step("hardswish")), pad=(0, 1, 2, 0)),
        pair(8, LANES, 10, 10, dilation=2),
        pair(4, LANES, 7, 9, r=1, stride=3, pad=(0, 0, 0, 0)),  # rows that no window reads
        pair(3, LANES, 1, 1),
    ],
    ids=str,
)
def test_matches_oracle(task: PairTask) -> None:
    assert check_all(task)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.name)
@pytest.mark.parametrize("bands", [1, 2, 5])
@pytest.mark.parametrize(("pixels", "vectors", "columns"), [(5, 3, 4), (11, 1, 5)])
def test_tiles_and_bands_that_do_not_divide(
    cls: type[ExpandDepthwiseVariant], bands: int, pixels: int, vectors: int, columns: int
) -> None:
    task = pair(2 * LANES, 3 * LANES, 7, 11, n=2, second=(Step("bias"), Step("add")))
    variant = cls(*EVERY[cls], pixels, vectors, columns, LANES, bands)
    assert error_of(task, variant) <= variant.error_bound(task)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    """Sizes, padding, stride, dilation and tiles at random."""
    draw = data.draw
    r, dilation, stride = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    h, w = (draw(st.integers(1, 9)) + (r - 1) * dilation for _ in range(2))
    pad = tuple(draw(st.integers(0, 2)) for _ in range(4))
    k = LANES * draw(st.integers(1, 3))
    task = pair(draw(st.integers(1, 20)), k, h, w, r, stride, draw(st.integers(1, 2)), pad=pad, dilation=dilation)
    vectors = draw(st.sampled_from([v for v in (1, 2, 3) if k // LANES % v == 0]))
    knobs = draw(st.integers(1, min(w, 7))), vectors, draw(st.integers(1, min(task.second.ow, 7)))
    cls = draw(st.sampled_from(list(EVERY)))
    variant = cls(*EVERY[cls], *knobs, LANES, draw(st.integers(1, task.second.oh)))
    assert error_of(task, variant) <= variant.error_bound(task)


def test_threads_share_the_work() -> None:
    """Of nine chunks for two threads one would have five: the rows are dealt instead, and the result is the same."""
    task, machine = pair(8, 9 * LANES, 16, 16), dataclasses.replace(MACHINE, threads=2)
    assert model.bands(task.second, MACHINE, 1) == 1 and model.bands(task.second, machine, 1) == 2
    assert model.bands(pair(8, 8 * LANES, 16, 16).second, machine, 1) == 1
    case = check.make_case(task)
    for cls in EVERY:
        for variant in cls.candidates(task, machine):
            args = check.arguments(case, variant)
            built(variant.prim_func(task, machine))["main"](*args)
            assert check.relative_error(case, variant, args) <= variant.error_bound(task)


def test_tiles_fill_the_registers() -> None:
    """No tile spills, none wastes most of its pixels, and the ring of several vectors fits L1."""
    for c, k, h in itertools.product((16, 24), (96, 144), (7, 14, 28, 56, 112)):
        task = pair(c, k, h, h)
        tiles = model.best_tiles(task, MACHINE, PointwiseRows.ring_bytes(MACHINE))
        assert 1 <= len(tiles) <= 2
        for pixels, vectors in tiles:
            assert pixels * vectors + vectors <= MACHINE.vector_registers
            geometry = Geometry(task, pixels, vectors, 1, LANES, 1)
            assert geometry.pixel_tiles * pixels <= 1.5 * h
            assert vectors == 1 or 4 * geometry.ring_floats <= 2 * MACHINE.l1_bytes


def test_where_it_applies() -> None:
    first, second = pair(8, 2 * LANES, 8, 8).first, pair(8, 2 * LANES, 8, 8).second
    dense = dataclasses.replace(second, groups=1)
    strided = ConvTask(1, 8, 15, 15, 2 * LANES, 1, 1, (2, 2))
    ragged = pair(8, 2 * LANES + 1, 8, 8)
    for task, reason in (
        (PairTask(first, dense), "not depthwise"),
        (PairTask(strided, second), "not a 1x1"),
        (pair(8, LANES, 9, 9, r=7), "7x7"),
        (ragged, "no whole vectors"),
    ):
        with pytest.raises(Reject, match=reason):
            list(ExpandDepthwiseNHWC.candidates(task, MACHINE))
    assert list(ExpandDepthwiseNCHWc.candidates(ragged, MACHINE))


def test_no_band_is_empty() -> None:
    """Seven rows in five bands of two are four."""
    assert Geometry(pair(8, LANES, 7, 7), 1, 1, 1, LANES, 5).band_count == 4


def test_pairs_fit_together() -> None:
    first, second = pair(8, LANES, 8, 8).first, pair(8, LANES, 8, 8).second
    with pytest.raises(ValueError, match="the second reads"):
        PairTask(first, dataclasses.replace(second, h=9))
    with pytest.raises(ValueError, match="reads a tensor"):
        PairTask(dataclasses.replace(first, epilogue=(Step("add"),)), second)
