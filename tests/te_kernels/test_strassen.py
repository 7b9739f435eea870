"""Strassen: the bilinear algorithm in exact integers, kernels against the float64 oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tvm

from te_kernels.conv2d import _strassen_transform as strassen
from te_kernels.conv2d._strassen import StrassenVariant
from te_kernels.conv2d._transformed_geometry import Blocking
from te_kernels.conv2d.strassen_nchwc import StrassenNCHWc
from te_kernels.conv2d.strassen_nchwc_nhwc import StrassenNCHWcToNHWC
from te_kernels.conv2d.strassen_nhwc import StrassenNHWC
from te_kernels.conv2d.strassen_nhwc_nchwc import StrassenNHWCToNCHWc
from te_kernels.epilogue import Step
from te_kernels.machine import describe
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all, error_of

LANES = MACHINE.vector_lanes
EVERY: dict[type[StrassenVariant], tuple[str, str]] = {
    StrassenNHWC: ("NHWC", "NHWC"),
    StrassenNCHWc: (MACHINE.blocked_layout, MACHINE.blocked_layout),
    StrassenNHWCToNCHWc: ("NHWC", MACHINE.blocked_layout),
    StrassenNCHWcToNHWC: (MACHINE.blocked_layout, "NHWC"),
}


def _sum(terms: list[tuple[float, np.ndarray]]) -> np.ndarray:
    return sum((coefficient * value for coefficient, value in terms), np.zeros(1))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_products_give_the_matrix_product(levels: int) -> None:
    """7^l products of integers: exact."""
    side = 2**levels
    rng = np.random.default_rng(levels)
    left, right = (rng.integers(-9, 10, (side, side)).astype(float) for _ in range(2))
    transform = strassen.StrassenTransform(levels)
    lefts = strassen._products(strassen._DATA, [np.array([x]) for x in left.ravel()], _sum)
    rights = transform.transform_weight(right)
    products = [a * b for a, b in zip(lefts, rights, strict=True)]
    assert len(products) == transform.positions == 7**levels
    result = np.concatenate(strassen._results(products, _sum)).reshape(side, side)
    np.testing.assert_array_equal(result, left @ right)


def test_the_additions_are_winograds() -> None:
    """4 for the data, 7 for the result of one level; of two, 4 of quarters and 7 times those of quarters' quarters."""
    counts = [strassen.StrassenTransform(levels).cycles(10**6) for levels in (1, 2)]
    assert counts == [(4 / 2, 7 / 2), ((4 * 4 + 7 * 4) / 2, (7 * 7 + 4 * 7) / 2)]


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.name)
@pytest.mark.parametrize(
    "task",
    [
        ConvTask(1, 4 * LANES, 5, 7, 8 * LANES, 1, 1, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(3, 8 * LANES, 3, 3, 4 * LANES, 1, 1, epilogue=(Step("scale"), Step("bias"), Step("silu"))),
        ConvTask(2, 4 * LANES, 7, 9, 4 * LANES, 1, 1, (2, 3)),
        ConvTask(1, 4 * LANES, 9, 8, 8 * LANES, 3, 3, (2, 2), (1, 0, 1, 2), epilogue=(Step("bias"),)),
        ConvTask(2, 4 * LANES, 6, 7, 4 * LANES, 3, 2, (1, 1), (2, 1, 2, 1), (2, 1)),
        ConvTask(1, 4 * LANES, 2, 2, 4 * LANES, 1, 1),
    ],
    ids=str,
)
def test_any_shape_and_blocking(task: ConvTask, cls: type[StrassenVariant], levels: int) -> None:
    """Positions that are no whole tiles, blocks and chunks that divide nothing; all layouts."""
    for blocking in (Blocking(3, 2, LANES, 5, 1), Blocking(4, 1, LANES, 4, 2), Blocking(2, 1, LANES, 99, 3)):
        knobs = dataclasses.asdict(blocking)
        knobs["block"] = min(knobs["block"], -(-task.n * task.oh * task.ow // 2**levels))
        knobs["vectors"] = min(knobs["vectors"], task.k // (2**levels * LANES))
        variant = cls(*EVERY[cls], **knobs, levels=levels)
        assert error_of(task, variant) <= variant.error_bound(task)


@pytest.mark.parametrize(("c", "r"), [(64, 1), (256, 1), (1024, 1), (256, 3)])
@pytest.mark.parametrize("levels", [1, 2])
def test_error_bound_is_tight(levels: int, c: int, r: int) -> None:
    task = ConvTask(1, c, 9, 9, 64, r, r, (2, 2), (r // 2,) * 4)
    variant = StrassenNHWC("NHWC", "NHWC", 5, 1, LANES, 5, 1, levels)
    assert 1 / 8 <= error_of(task, variant) / variant.error_bound(task) <= 1


def test_candidates_meet_their_bounds() -> None:
    assert check_all(
        ConvTask(1, 512, 14, 14, 256, 1, 1, epilogue=(Step("bias"), Step("relu"))), [c.name for c in EVERY]
    )


@pytest.mark.parametrize("threads", [2, 6])
@pytest.mark.parametrize(("size", "block", "blocks"), [(7, 25, 1), (17, 9, 17)])
def test_parallel_loops(size: int, block: int, blocks: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over chunks of output channels (one block of tiles), or over blocks of tiles, the last of which overlaps."""
    task = ConvTask(1, 4 * LANES, size, size, 8 * LANES, 1, 1, epilogue=(Step("bias"), Step("add"), Step("relu")))
    monkeypatch.setattr(kernel_checks, "MACHINE", dataclasses.replace(MACHINE, threads=threads))
    variant = StrassenNHWC("NHWC", "NHWC", 4, 1, LANES, block, 1, 1)
    assert variant.geometry(task).blocks == blocks
    assert error_of(task, variant) <= variant.error_bound(task)


@pytest.mark.parametrize("mcpu", ["haswell", "nehalem"])
def test_other_instruction_sets(mcpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 and 4 lanes, 16 registers."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": str(TARGET.attrs["mtriple"])})
    if mcpu == "haswell" and MACHINE.vector_lanes < 8:
        pytest.skip("this machine has no AVX2")
    monkeypatch.setattr(kernel_checks, "TARGET", target)
    monkeypatch.setattr(kernel_checks, "MACHINE", describe(target, 1))
    names = [c.name for c in EVERY]
    assert kernel_checks.check_all(ConvTask(1, 256, 14, 14, 256, 1, 1, epilogue=(Step("bias"),)), names)
    assert kernel_checks.check_all(ConvTask(1, 128, 12, 12, 128, 3, 3, (2, 2), (1, 1, 1, 1)), names)


def test_small_even_windows_have_no_other_fast_algorithm() -> None:
    assert list(StrassenNHWC.candidates(ConvTask(1, 256, 28, 28, 256, 2, 2), MACHINE))
    with pytest.raises(Reject, match="minimal filtering"):
        list(StrassenNHWC.candidates(ConvTask(1, 256, 28, 28, 256, 4, 4), MACHINE))


def test_threads_have_products_of_their_own() -> None:
    """Of seven blocks of tiles, as many as there are threads are at work; one block's input is shared."""
    task = ConvTask(1, 4 * LANES, 7, 7, 8 * LANES, 1, 1)
    several, one = (StrassenNHWC("NHWC", "NHWC", 4, 1, LANES, block, 1, 1) for block in (4, 25))
    assert (several.geometry(task).blocks, one.geometry(task).blocks) == (7, 1)
    assert [several.workspace_bytes(task, threads) for threads in (2, 99)] == [
        several.workspace_bytes(task) * threads for threads in (2, 7)
    ]
    g = one.geometry(task)
    assert one.workspace_bytes(task, 2) - one.workspace_bytes(task) == 4 * g.positions * g.product_panel


def test_two_levels_only_of_small_weights() -> None:
    """Three times 1 MB stay in an eighth of 32 MB, three times 4 MB do not."""
    machine = dataclasses.replace(MACHINE, l2_bytes=1 << 20, l3_bytes=32 << 20, vector_lanes=16, vector_registers=32)
    small, large = ConvTask(1, 1024, 14, 14, 256, 1, 1), ConvTask(1, 2048, 14, 14, 512, 1, 1)
    levels = [{v.levels for v in StrassenNHWC.candidates(task, machine)} for task in (small, large)]
    assert levels == [{1, 2}, {1}]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (ConvTask(1, 256, 14, 14, 256, 1, 1, groups=2), "groups"),
        (ConvTask(1, 256, 14, 14, 256, 3, 3, (1, 1), (1, 1, 1, 1)), "minimal filtering"),
        (ConvTask(1, 3 * LANES, 28, 28, 256, 1, 1), "whole vectors"),
        (ConvTask(1, 64, 7, 7, 64, 1, 1), "too small"),
        (ConvTask(1, 256, 1, 1, 256, 1, 1), "single position"),
    ],
    ids=str,
)
def test_reasons(task: ConvTask, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        list(StrassenNHWC.candidates(task, MACHINE))
