"""MEC (memory-efficient convolution) against the float64 oracle, and the memory that gives it its name."""

from __future__ import annotations

import pytest
import tvm

from te_kernels.conv2d.im2col_gemm import Im2colGemm
from te_kernels.conv2d.im2row_gemm import Im2rowGemm
from te_kernels.conv2d.mec_nchw import MecNCHW
from te_kernels.conv2d.mec_nhwc import MecNHWC
from te_kernels.epilogue import Step
from te_kernels.machine import describe
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all

MEC = ["mec_nchw", "mec_nhwc"]
RELU = (Step("bias"), Step("relu"))
SAME3 = (1, 1, 1, 1)


@pytest.mark.parametrize(
    "task",
    [
        ConvTask(2, 24, 9, 13, 40, 3, 3, (1, 1), SAME3, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(1, 3, 23, 19, 20, 7, 7, (2, 2), (3, 3, 3, 3), epilogue=RELU),
        ConvTask(1, 16, 11, 10, 17, 3, 5, (2, 1), (0, 2, 1, 1), (1, 2)),
        ConvTask(1, 20, 12, 16, 33, 3, 3, (3, 2), (2, 0, 1, 3), (2, 1), epilogue=(Step("silu"),)),
        ConvTask(1, 32, 7, 7, 64, 3, 3, (1, 1), SAME3, groups=2, epilogue=RELU),
        ConvTask(1, 3, 29, 31, 10, 11, 11, (4, 4), (2, 2, 2, 2), epilogue=RELU),
        ConvTask(1, 256, 5, 6, 40, 5, 5, (1, 1), (2, 2, 2, 2), epilogue=RELU),
        ConvTask(1, 96, 40, 41, 16, 5, 5, (1, 1), (2, 2, 2, 2)),
    ],
    ids=str,
)
def test_mec_matches_oracle(task: ConvTask) -> None:
    names = {label.split("[")[0] for label in check_all(task, MEC)}
    assert names == set(MEC)


@pytest.mark.parametrize("mcpu", ["haswell", "nehalem"])
def test_narrow_vectors_and_two_threads(mcpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": str(TARGET.attrs["mtriple"])})
    monkeypatch.setattr(kernel_checks, "TARGET", target)
    monkeypatch.setattr(kernel_checks, "MACHINE", describe(target, 2))
    assert check_all(ConvTask(1, 20, 9, 10, 24, 3, 3, (1, 1), SAME3, epilogue=RELU), MEC)


def test_needs_less_memory_than_im2() -> None:
    """About a third of the matrix of a 3x3 convolution, for the same block of rows."""
    task = ConvTask(1, 16, 60, 60, 32, 3, 3, (1, 1), SAME3)
    for mec, im2 in ((MecNHWC, Im2rowGemm), (MecNCHW, Im2colGemm)):
        first = next(iter(mec.candidates(task, MACHINE)))
        other = first.form if mec is MecNHWC else first.source
        knobs = dict(first.knobs) | ({"form": "im2row"} if other == "mec" else {"source": "columns"})
        assert first.workspace_bytes(task) < 0.55 * im2(**knobs).workspace_bytes(task)


def test_rejections_say_why() -> None:
    for cls in (MecNHWC, MecNCHW):
        with pytest.raises(Reject, match="one axis only"):
            list(cls.candidates(ConvTask(1, 16, 9, 9, 16, 1, 7), MACHINE))
        with pytest.raises(Reject, match="depthwise"):
            list(cls.candidates(ConvTask(1, 16, 9, 9, 16, 3, 3, groups=16), MACHINE))
