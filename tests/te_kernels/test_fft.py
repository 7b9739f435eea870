"""FFT convolution: transforms against numpy's, kernels against the float64 oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tvm

from te_kernels import check
from te_kernels.conv2d._fft_program import complex_dft, real_dft, transposed
from te_kernels.conv2d._fft_transform import FftTransform
from te_kernels.conv2d._linear_program import Program
from te_kernels.conv2d.fft_nchwc import FftNCHWc
from te_kernels.conv2d.fft_nhwc import FftNHWC
from te_kernels.epilogue import Step
from te_kernels.machine import describe
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all, error_of

FFT = ["fft_nchwc", "fft_nhwc", "fft_nhwc_nchwc", "fft_nchwc_nhwc"]
RELU = (Step("bias"), Step("relu"))


def _matrix(program: Program) -> np.ndarray:
    """What a program computes, column by column."""
    columns = [program.run(list(unit), lambda terms: sum(c * v for c, v in terms)) for unit in np.eye(program.inputs)]
    return np.stack(columns, 1)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 8, 9, 12, 15, 16, 18, 20, 24, 30, 32])
def test_programs_are_the_transforms(n: int) -> None:
    rng = np.random.default_rng(n)
    x, z = rng.standard_normal(n), rng.standard_normal((n, 2))
    spectrum = np.fft.fft(x)
    expected = [spectrum[0].real] + [spectrum[n // 2].real] * (n % 2 == 0)
    for value in spectrum[1 : (n + 1) // 2]:
        expected += [value.real, value.imag]
    real, pair = _matrix(real_dft(n)), _matrix(complex_dft(n))
    np.testing.assert_allclose(real @ x, expected, atol=1e-12)
    spectrum = np.fft.fft(z[:, 0] + 1j * z[:, 1])
    np.testing.assert_allclose(pair @ z.ravel(), np.stack([spectrum.real, spectrum.imag], 1).ravel(), atol=1e-12)
    np.testing.assert_allclose(_matrix(transposed(real_dft(n))), real.T, atol=1e-12)
    half = (n + 1) // 2
    np.testing.assert_allclose(_matrix(transposed(complex_dft(n), half)), pair.T[:half], atol=1e-12)


def test_operation_counts() -> None:
    """Fused multiply-adds counted once: the textbook's 144 additions and 24 multiplications for 16 complex numbers."""
    assert (real_dft(8).operations, real_dft(16).operations, complex_dft(16).operations) == (23, 71, 148)
    for n in (8, 12, 16, 20, 32):
        assert transposed(complex_dft(n)).operations <= complex_dft(n).operations + n


@pytest.mark.parametrize("size", [(12, 5, 5), (6, 7, 5), (4, 1, 7), (10, 3, 1), (14, 3, 3)])
def test_positions(size: tuple[int, int, int]) -> None:
    """Half a spectrum, three products for each complex frequency, one for each real one."""
    transform = FftTransform(*size)
    (height, width), outputs = transform.window, transform.outputs
    self_conjugate = (2 - height % 2) * (2 - width % 2)
    assert transform.positions == self_conjugate + 3 * (height * width - self_conjugate) // 2
    weight = np.random.default_rng(0).standard_normal((*size[1:], 2))
    assert transform.transform_weight(weight).shape == (transform.positions, 2)
    assert outputs == (height - size[1] + 1, width - size[2] + 1)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (ConvTask(2, 24, 9, 21, 40, 5, 5, (1, 1), (2, 2, 2, 2), epilogue=(Step("bias"), Step("add"))), FFT),
        (ConvTask(1, 33, 7, 6, 17, 3, 3, (1, 1), (0, 2, 1, 0), epilogue=(Step("scale"), Step("silu"))), ["fft_nhwc"]),
        (ConvTask(1, 3, 30, 26, 16, 9, 9, (1, 1), (4, 4, 4, 4), epilogue=RELU), ["fft_nhwc"]),
        (ConvTask(1, 20, 13, 30, 5, 7, 7, (1, 1), (6, 0, 1, 3)), ["fft_nchwc"]),
        (ConvTask(1, 40, 9, 18, 24, 1, 7, (1, 1), (0, 3, 0, 3)), ["fft_nchwc"]),
        (ConvTask(1, 16, 18, 5, 24, 11, 1, (1, 1), (5, 0, 5, 0)), ["fft_nhwc"]),
        (ConvTask(1, 64, 9, 9, 96, 5, 5, (1, 1), (2, 2, 2, 2), groups=2, epilogue=RELU), ["fft_nhwc_nchwc"]),
        (ConvTask(1, 16, 12, 16, 16, 5, 7, (1, 1), (2, 3, 2, 3), epilogue=RELU), ["fft_nchwc"]),
    ],
    ids=str,
)
def test_fft_matches_oracle(task: ConvTask, names: list[str]) -> None:
    assert check_all(task, names)


@pytest.mark.parametrize("c", [16, 512])
def test_error_bound_is_tight(c: int) -> None:
    """The bound follows the number of channels: errors are within a factor of 6 of it."""
    task = ConvTask(1, c, 12, 12, 32, 5, 5, (1, 1), (2, 2, 2, 2))
    layout = MACHINE.blocked_layout
    variant = FftNCHWc(layout, layout, 1, 2, MACHINE.vector_lanes, 1, 1, m=12)
    assert 1 / 6 <= error_of(task, variant) / variant.error_bound(task) <= 1


@pytest.mark.parametrize("size", [12, 24])
def test_parallel_loops(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for two threads, parallel over the output channels or over the blocks of tiles."""
    task = ConvTask(1, 32, size, size, 64, 5, 5, (1, 1), (2, 2, 2, 2), epilogue=RELU)
    machine = dataclasses.replace(MACHINE, threads=2)
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    variant = next(iter(FftNCHWc.candidates(task, machine)))
    assert error_of(task, variant) <= variant.error_bound(task)


@pytest.mark.parametrize("mcpu", ["haswell", "nehalem"])
def test_other_instruction_sets(mcpu: str) -> None:
    """8 and 4 lanes, 16 registers: executed here, since x86 machines run each other's older code."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": str(TARGET.attrs["mtriple"])})
    if mcpu == "haswell" and MACHINE.vector_lanes < 8:
        pytest.skip("this machine has no AVX2")
    machine = describe(target, 1)
    task = ConvTask(1, 12, 14, 9, 20, 5, 5, (1, 1), (2, 2, 2, 2), epilogue=RELU)
    case = check.make_case(task)
    for cls in (FftNCHWc, FftNHWC):
        variant = next(iter(cls.candidates(task, machine)))
        module = tvm.compile(tvm.IRModule({"main": variant.prim_func(task, machine)}), target=target)
        args = check.arguments(case, variant)
        module["main"](*args)
        assert check.relative_error(case, variant, args) <= variant.error_bound(task), variant.label


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (ConvTask(1, 32, 9, 9, 32, 1, 5), "1x5"),
        (ConvTask(1, 32, 9, 9, 32, 5, 5, (2, 2)), "stride"),
        (ConvTask(1, 32, 9, 9, 32, 5, 5, dilation=(2, 2)), "dilation"),
        (ConvTask(1, 32, 9, 9, 32, 5, 5, groups=32), "groups of 1 and 1 channels"),
        (ConvTask(1, 32, 9, 9, 32, 4, 5), "4x5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejections_say_why(task: ConvTask, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        list(FftNCHWc.candidates(task, MACHINE))
