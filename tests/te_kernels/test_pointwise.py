"""1x1 convolution kept in registers, with tiles and vectors that overlap, against the float64 oracle."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.conv2d._pointwise import PointwiseVariant
from te_kernels.conv2d._pointwise_geometry import Geometry
from te_kernels.conv2d.pointwise_nchwc import PointwiseNCHWc
from te_kernels.conv2d.pointwise_nchwc_nhwc import PointwiseNCHWcToNHWC
from te_kernels.conv2d.pointwise_nhwc import PointwiseNHWC
from te_kernels.conv2d.pointwise_nhwc_nchwc import PointwiseNHWCToNCHWc
from te_kernels.epilogue import Step
from te_kernels.machine import describe
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all

NAME = ["pointwise_nhwc"]
EVERY: dict[type[PointwiseVariant], tuple[str, str]] = {
    PointwiseNHWC: ("NHWC", "NHWC"),
    PointwiseNCHWc: (MACHINE.blocked_layout, MACHINE.blocked_layout),
    PointwiseNHWCToNCHWc: ("NHWC", MACHINE.blocked_layout),
    PointwiseNCHWcToNHWC: (MACHINE.blocked_layout, "NHWC"),
}
RELU = (Step("bias"), Step("relu"))


@pytest.mark.parametrize(
    "task",
    [
        ConvTask(1, 544, 7, 7, 544, 1, 1, groups=4, epilogue=RELU),
        ConvTask(1, 24, 13, 11, 112, 1, 1, groups=4, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(2, 10, 5, 3, 170, 1, 1, groups=2, epilogue=(Step("scale"), Step("bias"), Step("silu"))),
        ConvTask(1, 6, 1, 1, 51, 1, 1, groups=3),  # a single pixel, one vector and one channel
    ],
    ids=str,
)
def test_matches_oracle(task: ConvTask) -> None:
    assert check_all(task, NAME)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.name)
@pytest.mark.parametrize(
    "task",
    [
        ConvTask(1, 48, 13, 13, 112, 1, 1, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(3, 32, 11, 7, 48, 1, 1, epilogue=(Step("scale"), Step("bias"), Step("silu"))),
        ConvTask(2, 16, 1, 3, 16, 1, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize(("pixels", "vectors"), [(5, 3), (3, 7), (2, 1), (3, 2)])
def test_all_layouts(task: ConvTask, cls: type[PointwiseVariant], pixels: int, vectors: int) -> None:
    """Tiles that divide neither pixels nor vectors, several images."""
    pixels, vectors = min(pixels, task.h * task.w), min(vectors, task.k // MACHINE.vector_lanes)
    variant = cls(*EVERY[cls], pixels, vectors, MACHINE.vector_lanes)
    assert kernel_checks.error_of(task, variant) <= variant.error_bound(task)


def test_where_it_applies() -> None:
    """In all layouts; of many channels one tile is as good as the other."""
    for task, tiles in ((ConvTask(1, 64, 14, 14, 64, 1, 1), 2), (ConvTask(1, 384, 13, 13, 48, 1, 1), 1)):
        assert [len(list(cls.candidates(task, MACHINE))) for cls in EVERY] == [tiles] * len(EVERY)
    with pytest.raises(Reject, match="blocks"):
        list(PointwiseNCHWc.candidates(ConvTask(1, 24, 13, 13, 56, 1, 1), MACHINE))


@pytest.mark.parametrize(("k", "h", "most"), [(64, 7, 2), (192, 7, 2), (64, 64, 1), (48, 2, 3)])
def test_no_thread_has_much_more_to_do(k: int, h: int, most: int) -> None:
    """Sixteen threads on one image: work goes by pixels or by channels, whichever has more parts to deal."""
    task = ConvTask(1, 64, h, h, k, 1, 1)
    g = Geometry(task, min(7, h * h), 1, 16)
    blocks = -(-g.tiles // g.block_tiles(1 << 20, 16))
    parts = blocks if blocks > 1 else g.units
    best = max(min(16, g.tiles), min(16, g.units))
    assert parts >= best / 2 and -(-parts // 16) <= most


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 3), st.integers(2, 5), st.integers(1, 9), st.integers(17, 80), st.integers(1, 9), st.integers(1, 9)
)  # fmt: skip
def test_any_shape(n: int, groups: int, c: int, k: int, h: int, w: int) -> None:
    task = ConvTask(n, c * groups, h, w, k * groups, 1, 1, groups=groups, epilogue=RELU)
    assert bool(check_all(task, NAME)) == (k % MACHINE.vector_lanes != 0 and not task.depthwise)


def test_stays_inside_of_its_output() -> None:
    """Six tiles in blocks for four threads: two a block are three blocks, and a fourth would lie beyond the end."""
    task = ConvTask(1, 6, 1, 12, 51, 1, 1, groups=3)
    variant = PointwiseNHWC("NHWC", "NHWC", pixels=2, vectors=2, lanes=MACHINE.vector_lanes)
    func = variant.prim_func(task, describe(TARGET, 4)).with_attr("global_symbol", "main")
    data, *params, out = check.arguments(check.make_case(task), variant)
    size = math.prod(out.shape)
    longer = np.from_dlpack(tvm.runtime.tensor(np.full(2 * size, 7.0, np.float32)))  # aligned
    kernel = tvm.compile(tvm.IRModule({"main": func}), target=TARGET)["main"]
    kernel(data, *params, tvm.runtime.from_dlpack(longer[:size].reshape(out.shape)))
    assert (longer[size:] == 7.0).all() and (longer[:size] != 7.0).all()


@pytest.mark.parametrize("mcpu", ["haswell", "nehalem"])
def test_narrow_vectors_and_two_threads(mcpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": str(TARGET.attrs["mtriple"])})
    monkeypatch.setattr(kernel_checks, "TARGET", target)
    monkeypatch.setattr(kernel_checks, "MACHINE", describe(target, 2))
    assert check_all(ConvTask(1, 21, 9, 10, 75, 1, 1, groups=3, epilogue=RELU), NAME)
    assert check_all(ConvTask(1, 1020, 30, 30, 510, 1, 1, groups=3, epilogue=RELU), NAME)  # blocks of pixels


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (ConvTask(1, 32, 13, 13, 12, 1, 1), "less than one vector"),
        (ConvTask(1, 32, 5, 5, 64, 1, 1, groups=2), "whole vectors"),
        (ConvTask(1, 32, 5, 5, 30, 1, 1, groups=2), "less than one vector"),
        (ConvTask(1, 32, 5, 5, 34, 3, 3, groups=2), "not 1x1"),
        (ConvTask(1, 8, 5, 5, 160, 1, 1, groups=8), "depthwise"),
    ],
)
def test_says_why_not(task: ConvTask, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        list(PointwiseNHWC.candidates(task, MACHINE))


@pytest.mark.parametrize(
    ("task", "halved"),
    [
        (ConvTask(1, 40, 6, 7, 24, 1, 1, epilogue=(Step("bias"), Step("add"))), True),
        (ConvTask(2, 68, 5, 5, 136, 1, 1, groups=4), True),
        (ConvTask(1, 16, 6, 6, 32, 1, 1), False),
        (ConvTask(1, 16, 6, 6, 136, 1, 1), False),  # 9 vectors of 16 waste few lanes
    ],
    ids=str,
)
def test_half_vectors(task: ConvTask, halved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor runs long vectors in halves, and half ones waste less."""
    machine = dataclasses.replace(MACHINE, mcpu="znver4", vector_lanes=16, vector_registers=32)
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    candidates = list(PointwiseNHWC.candidates(task, machine))
    assert any(v.lanes == 8 for v in candidates) == halved
    assert check_all(task, NAME)
    whole = dataclasses.replace(machine, mcpu="znver5")
    assert all(v.lanes == 16 for v in PointwiseNHWC.candidates(task, whole))
