"""Winograd: transform matrices in exact fractions, kernels against the float64 oracle."""

from __future__ import annotations

import dataclasses
import random
from fractions import Fraction

import numpy as np
import pytest
import tvm

from te_kernels import check
from te_kernels.conv2d._transformed_geometry import Blocking
from te_kernels.conv2d._winograd_linear import straight_line
from te_kernels.conv2d._winograd_matrices import cook_toom, filtering
from te_kernels.conv2d.winograd_nchwc import WinogradNCHWc
from te_kernels.conv2d.winograd_nhwc import WinogradNHWC
from te_kernels.epilogue import Step
from te_kernels.machine import describe
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all, error_of

WINOGRAD = ["winograd_nchwc", "winograd_nhwc", "winograd_nhwc_nchwc", "winograd_nchwc_nhwc"]
RELU = (Step("bias"), Step("relu"))
SIZES = [(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3), (2, 5), (5, 5), (2, 7), (1, 3), (1, 1), (5, 2)]


def _combine(terms: list[tuple[Fraction, Fraction]]) -> Fraction:
    return sum((c * v for c, v in terms), Fraction(0))


@pytest.mark.parametrize(
    ("m", "r", "points"),
    [(m, r, None) for m, r in SIZES] + [(4, 3, (0, Fraction(1, 2), Fraction(-1, 2), 3, Fraction(-2, 3)))],
)
def test_matrices_are_exact(m: int, r: int, points: tuple[Fraction, ...] | None) -> None:
    """Matrices and their straight-line programs compute the correlation exactly, for random rational operands."""
    matrices = cook_toom(m, r, points)
    rng = random.Random(m * 10 + r)
    for _ in range(5):
        d = [Fraction(rng.randint(-99, 99), rng.randint(1, 9)) for _ in range(matrices.size)]
        g = [Fraction(rng.randint(-99, 99), rng.randint(1, 9)) for _ in range(r)]
        expected = [sum(d[i + k] * g[k] for k in range(r)) for i in range(m)]
        filtered = [sum(a * b for a, b in zip(row, g, strict=True)) for row in matrices.g]
        plain = [sum(a * b for a, b in zip(row, d, strict=True)) for row in matrices.bt]
        transformed = straight_line(matrices.bt).run(d, _combine)
        assert transformed == plain
        products = [a * b for a, b in zip(transformed, filtered, strict=True)]
        assert straight_line(matrices.at).run(products, _combine) == expected


@pytest.mark.parametrize(
    ("m", "r", "stride"), [(4, 3, 2), (7, 3, 2), (3, 5, 2), (2, 7, 2), (3, 2, 2), (2, 5, 3), (3, 11, 4)]
)
def test_strided_matrices_are_exact(m: int, r: int, stride: int) -> None:
    matrices = filtering(m, r, stride)
    assert matrices.size == matrices.window == stride * m + r - stride
    rng = random.Random(m * 10 + r)
    d, g = ([Fraction(rng.randint(-99, 99)) for _ in range(count)] for count in (matrices.window, r))
    filtered = [sum(a * b for a, b in zip(row, g, strict=True)) for row in matrices.g]
    products = [a * b for a, b in zip(straight_line(matrices.bt).run(d, _combine), filtered, strict=True)]
    expected = [sum(d[i * stride + k] * g[k] for k in range(r)) for i in range(m)]
    assert straight_line(matrices.at).run(products, _combine) == expected


def test_matrices_refuse_bad_points() -> None:
    with pytest.raises(ValueError, match="5 distinct finite points"):
        cook_toom(4, 3, (Fraction(0), Fraction(1), Fraction(1), Fraction(2), Fraction(3)))
    with pytest.raises(ValueError, match="at least one output"):
        cook_toom(0, 3)
    with pytest.raises(ValueError, match="useless in float32"):
        cook_toom(12, 7)


def test_shared_sums() -> None:
    """The textbook counts, 4 and 4 operations for F(2,3), 12 for B^T of F(4,3); no step without a term of its own."""
    counts = {2: (4, 4), 4: (12, 10), 6: (24, 20), 7: (36, 30)}
    for m, operations in counts.items():
        matrices = cook_toom(m, 3)
        forward, inverse = straight_line(matrices.bt), straight_line(matrices.at)
        assert (forward.operations, inverse.operations) == operations
        assert all(any(abs(c) == 1 for c, _ in terms) for terms in forward.steps)  # sums start without a product


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (
            ConvTask(2, 24, 9, 13, 40, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=(Step("bias"), Step("add"), Step("relu"))),
            WINOGRAD,
        ),
        (
            ConvTask(1, 33, 7, 6, 17, 3, 3, (1, 1), (0, 2, 1, 0), epilogue=(Step("scale"), Step("bias"), Step("silu"))),
            ["winograd_nhwc"],
        ),
        (ConvTask(1, 64, 14, 14, 64, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=RELU), ["winograd_nchwc"]),
        (ConvTask(1, 16, 3, 19, 16, 3, 3), ["winograd_nchwc"]),
        (ConvTask(1, 40, 9, 8, 24, 1, 7, (1, 1), (0, 3, 0, 3)), ["winograd_nhwc"]),
        (ConvTask(1, 40, 9, 8, 24, 4, 4, (1, 1), (1, 2, 2, 1)), ["winograd_nhwc"]),
    ],
    ids=str,
)
def test_winograd_matches_oracle(task: ConvTask, names: list[str]) -> None:
    assert check_all(task, names)


@pytest.mark.parametrize(
    ("outputs", "blocking"),
    [
        ((2, 2), Blocking(5, 2, 16, 12, 1)),
        ((3, 3), Blocking(4, 1, 16, 8, 5)),
        ((4, 4), Blocking(4, 2, 16, 9, 2)),
        ((4, 3), Blocking(3, 3, 16, 3, 1)),
        ((5, 7), Blocking(9, 2, 16, 9, 2)),
        ((7, 6), Blocking(4, 1, 16, 4, 2)),
    ],
    ids=str,
)
def test_any_blocking(outputs: tuple[int, int], blocking: Blocking) -> None:
    """Blocks, register tiles and chunks that divide nothing."""
    task = ConvTask(1, 20, 13, 11, 70, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=RELU)
    assert _error(task, outputs, blocking, "NHWC") <= 1
    if outputs[0] == 4:
        assert _error(task, outputs, blocking, MACHINE.blocked_layout) <= 1


def _error(task: ConvTask, outputs: tuple[int, int], blocking: Blocking, layout: str) -> float:
    """As a part of the instance's own bound."""
    knobs = dataclasses.asdict(blocking) | {"lanes": MACHINE.vector_lanes}
    cls = WinogradNHWC if layout == "NHWC" else WinogradNCHWc
    variant = cls(layout, layout, m=outputs[0], n=outputs[1], **knobs)
    return error_of(task, variant) / variant.error_bound(task)


@pytest.mark.parametrize(
    ("c", "m"), [(16, 2), (16, 6), (64, 4), (512, 2), (512, 3), (512, 4), (512, 5), (512, 6), (64, 7), (512, 7)]
)
def test_error_bound_is_tight(c: int, m: int) -> None:
    """The bound follows the size of the tile and the number of channels: errors are within a factor of 6 of it."""
    task = ConvTask(1, c, 10, 10, 32, 3, 3, (1, 1), (1, 1, 1, 1))
    assert 1 / 6 <= _error(task, (m, m), Blocking(5, 2, 16, 25, 1), MACHINE.blocked_layout) <= 1


def test_error_bounds_of_sizes() -> None:
    """At 64 channels: F(2,3), F(4,3), F(6,3), F(7,3); other points change them."""
    task = ConvTask(1, 64, 10, 10, 32, 3, 3)
    bounds = [WinogradNHWC("NHWC", "NHWC", 4, 2, 16, 12, 1, m, m).error_bound(task) for m in (2, 4, 6, 7)]
    assert bounds == pytest.approx([1.6e-6, 5.9e-6, 3.1e-5, 9.6e-5], rel=0.05)
    small_integers = tuple(map(Fraction, (0, 1, -1, 2, -2)))
    assert cook_toom(4, 3, small_integers).amplification > 1.9 * cook_toom(4, 3).amplification


@pytest.mark.parametrize(
    ("r", "s", "m", "n"),
    [
        (5, 5, 2, 2),
        (5, 5, 5, 4),
        (1, 3, 1, 6),
        (1, 3, 1, 7),
        (3, 1, 4, 1),
        (1, 7, 1, 3),
        (7, 1, 2, 1),
        (3, 5, 6, 3),
        (7, 7, 3, 3),
    ],
)
def test_other_kernels(r: int, s: int, m: int, n: int) -> None:
    """Larger and one-dimensional kernels, with "same" padding and one column more."""
    pad = (r // 2, s // 2, r // 2, s // 2 + 1)
    task = ConvTask(1, 64, 11, 10, 32, r, s, (1, 1), pad, epilogue=RELU)
    assert _error(task, (m, n), Blocking(4, 2, 16, 12, 1), MACHINE.blocked_layout) <= 1


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (ConvTask(2, 24, 15, 18, 40, 3, 3, (2, 2), (1, 1, 1, 1), epilogue=(Step("bias"), Step("add"))), (4, 3)),
        (ConvTask(1, 33, 27, 30, 17, 3, 3, (2, 2), (0, 1, 1, 1), epilogue=RELU), (7, 7)),
        (ConvTask(1, 32, 19, 16, 32, 5, 5, (2, 2), (2, 1, 2, 2), epilogue=RELU), (5, 4)),
        (ConvTask(1, 16, 20, 21, 48, 7, 3, (2, 1), (3, 1, 3, 1)), (2, 4)),
        (ConvTask(1, 64, 13, 13, 64, 3, 3, (2, 2), (1, 1, 1, 1), groups=2), (2, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["NHWC", MACHINE.blocked_layout])
def test_strides(task: ConvTask, outputs: tuple[int, int], layout: str) -> None:
    assert 1 / 12 <= _error(task, outputs, Blocking(4, 1, 16, 8, 1), layout) <= 1
    assert any(variant.name.startswith("winograd") for variant in WinogradNHWC.candidates(task, MACHINE))


@pytest.mark.parametrize(
    ("mcpu", "tiles", "fetches"),
    [
        ("znver4", 4, False),
        ("znver4", 6, False),
        ("znver4", 9, True),
        ("emeraldrapids", 4, False),
        ("emeraldrapids", 6, True),
    ],
)
def test_weights_of_few_tiles_are_not_fetched(mcpu: str, tiles: int, fetches: bool) -> None:
    rows, columns = {4: (8, 8), 6: (8, 12), 9: (12, 12)}[tiles]  # of F(4 x 4)
    task = ConvTask(1, 512, rows, columns, 512, 3, 3, (1, 1), (1, 1, 1, 1))
    variant = WinogradNHWC("NHWC", "NHWC", tiles, 1, MACHINE.vector_lanes, tiles, 1, m=4, n=4)
    machine = dataclasses.replace(MACHINE, mcpu=mcpu, l2_bytes=2 << 20)
    assert ("llvm.prefetch" in variant.prim_func(task, machine).script()) == fetches


@pytest.mark.parametrize(("c", "streams"), [(256, 4), (96, 3), (80, 1)])
@pytest.mark.parametrize("mcpu", ["znver5", "emeraldrapids"])
def test_weights_beyond_l2_in_streams(mcpu: str, c: int, streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reduction in several runs side by side gives the same, whatever machine it is meant for."""
    machine = dataclasses.replace(MACHINE, mcpu=mcpu, l2_bytes=1 << 16)
    task = ConvTask(1, c * MACHINE.vector_lanes // 16, 9, 9, 70, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=RELU)
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    variant = WinogradNHWC("NHWC", "NHWC", 3, 2, MACHINE.vector_lanes, 9, 1, m=4, n=3)
    assert error_of(task, variant) <= variant.error_bound(task)
    products = variant.prim_func(task, machine).script().count("* weight[")
    assert products == 6 * (streams if mcpu == "emeraldrapids" else 1)


def test_workspaces_of_one_size() -> None:
    """TVM's StorageRewrite took two buffers that are equally large for one."""
    task = ConvTask(1, 33, 7, 6, 17, 3, 3, (1, 1), (1, 1, 1, 1))
    variant = WinogradNHWC("NHWC", "NHWC", 1, 1, 16, 1, 2, m=7, n=6)
    geometry = variant.geometry(task)
    assert geometry.transformed_floats + 16 == geometry.products_floats
    assert error_of(task, variant) <= variant.error_bound(task)


@pytest.mark.parametrize("layout", ["NHWC", MACHINE.blocked_layout])
def test_groups(layout: str) -> None:
    task = ConvTask(1, 64, 9, 9, 96, 5, 5, (1, 1), (2, 2, 2, 2), groups=2, epilogue=RELU)
    assert _error(task, (3, 3), Blocking(4, 2, 16, 9, 1), layout) <= 1


@pytest.mark.parametrize("size", [7, 24])
def test_parallel_loops(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for two threads, parallel over the output channels (7x7) or over the blocks of tiles (24x24)."""
    task = ConvTask(1, 64, size, size, 64, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=RELU)
    machine = dataclasses.replace(MACHINE, threads=2)
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    variant = next(iter(WinogradNCHWc.candidates(task, machine)))
    assert error_of(task, variant) <= variant.error_bound(task)


@pytest.mark.parametrize("mcpu", ["haswell", "nehalem"])
def test_other_instruction_sets(mcpu: str) -> None:
    """8 and 4 lanes, 16 registers: executed here, since x86 machines run each other's older code."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": str(TARGET.attrs["mtriple"])})
    if mcpu == "haswell" and MACHINE.vector_lanes < 8:
        pytest.skip("this machine has no AVX2")
    machine = describe(target, 1)
    assert machine.vector_lanes == {"haswell": 8, "nehalem": 4}[mcpu]
    task = ConvTask(1, 24, 9, 7, 20, 3, 3, (1, 1), (1, 1, 1, 1), epilogue=RELU)
    case = check.make_case(task)
    for variant in [*WinogradNCHWc.candidates(task, machine), *WinogradNHWC.candidates(task, machine)]:
        func = variant.prim_func(task, machine)
        module = tvm.compile(tvm.IRModule({"main": func}), target=target)
        args = check.arguments(case, variant)
        module["main"](*args)
        assert check.relative_error(case, variant, args) <= variant.error_bound(task), variant.label


def test_candidates_are_few_and_parallel() -> None:
    machine = dataclasses.replace(MACHINE, threads=2)
    for c, size in ((64, 56), (128, 28), (256, 14), (512, 7), (512, 28), (64, 224)):
        task = ConvTask(1, c, size, size, c, 3, 3, (1, 1), (1, 1, 1, 1))
        candidates = list(WinogradNCHWc.candidates(task, machine))
        shapes = {(v.m, v.n, v.tile, v.vectors, v.block) for v in candidates}
        assert 1 <= len(shapes) <= 4
        assert len({(v.m, v.n) for v in candidates}) > 1, "tiles of more than one size"
        assert len(candidates) == len(set(candidates)) <= 2 * len(shapes)
        for shape in shapes:  # each also in the smallest chunks
            assert 1 in {v.chunk for v in candidates if (v.m, v.n, v.tile, v.vectors, v.block) == shape}
        for v in candidates:
            geometry = v.geometry(task)
            assert (geometry.blocks if geometry.blocks > 1 else geometry.chunks) >= 2
            assert v.tile * v.vectors + v.vectors + 1 <= machine.vector_registers


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (ConvTask(1, 32, 9, 9, 32, 6, 6), "6x6"),
        (ConvTask(1, 32, 9, 9, 32, 1, 1), "1x1"),
        (ConvTask(1, 32, 9, 9, 32, 3, 3, (3, 3)), r"stride \(3, 3\)"),
        (ConvTask(1, 32, 9, 9, 32, 2, 2, (2, 2)), "2x2 with stride"),
        (ConvTask(1, 32, 9, 9, 32, 3, 3, dilation=(2, 2)), "dilation"),
        (ConvTask(1, 32, 9, 9, 32, 3, 3, groups=4), "groups of 8 and 8 channels"),
        (ConvTask(1, 1, 9, 9, 32, 3, 3), "1 input channels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejections_say_why(task: ConvTask, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        list(WinogradNCHWc.candidates(task, MACHINE))


def test_weights_are_transformed_in_float64() -> None:
    task = ConvTask(1, 16, 8, 8, 16, 3, 3)
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    layout, lanes = MACHINE.blocked_layout, MACHINE.vector_lanes
    packed = WinogradNCHWc(layout, layout, 4, 1, lanes, 4, 1, m=4, n=4).pack(task, [weight])[0]
    g = np.array(cook_toom(4, 3).g, dtype=np.float64)
    expected = np.einsum("ai,kcij,bj->abck", g, weight.astype(np.float64), g).reshape(36, 16, 16).astype(np.float32)
    stored = packed.reshape(36, 16 // lanes, 16, lanes).transpose(0, 2, 1, 3).reshape(36, 16, 16)
    np.testing.assert_allclose(stored, expected, rtol=2e-7)  # one rounding to float32
