"""The convolution families beside direct and Winograd, against the float64 oracle."""

from __future__ import annotations

import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from te_kernels.epilogue import Step
from te_kernels.machine import describe
from te_kernels.task import ConvTask
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import TARGET, check_all

FAMILIES = [
    "sum2d",
    "kn2row",
    "kn2col",
    "im2row_gemm",
    "gemm_1x1_nhwc",
    "gemm_1x1_nchwc",
    "direct_kblock_nhwc",
    "direct_kblock_nchwc",
    "direct_nchw",
    "depthwise_nchw",
    "im2col_gemm",
    "gemm_1x1_nchw",
    "depthwise_nchwc",
    "depthwise_nhwc",
]
RELU = (Step("bias"), Step("relu"))
SAME3 = (1, 1, 1, 1)


@pytest.mark.parametrize(
    "task",
    [
        ConvTask(1, 3, 23, 19, 20, 7, 7, (2, 2), (3, 3, 3, 3), epilogue=RELU),
        ConvTask(2, 24, 9, 13, 40, 3, 3, (1, 1), SAME3, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(1, 33, 13, 13, 48, 1, 1, epilogue=(Step("scale"), Step("bias"), Step("clip", (0.0, 6.0)))),
        ConvTask(1, 32, 14, 14, 64, 1, 1, (2, 2)),
        ConvTask(1, 80, 7, 7, 70, 1, 1, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(1, 16, 11, 10, 17, 3, 5, (2, 1), (0, 2, 1, 1), (1, 2)),
        ConvTask(1, 56, 6, 5, 112, 1, 1, groups=4, epilogue=RELU),
        ConvTask(1, 32, 7, 7, 64, 3, 3, (1, 1), SAME3, groups=2, epilogue=(Step("silu"),)),
        ConvTask(1, 8, 1, 30, 16, 1, 7, (1, 1), (0, 3, 0, 3)),
        ConvTask(1, 8, 17, 3, 16, 7, 1, (1, 1), (3, 0, 3, 0)),
        ConvTask(1, 3, 29, 31, 10, 11, 11, (4, 4), (2, 2, 2, 2), epilogue=RELU),
        ConvTask(1, 32, 15, 15, 32, 3, 3, (1, 1), SAME3, groups=32, epilogue=RELU),
        ConvTask(2, 40, 14, 11, 40, 3, 3, (2, 2), SAME3, groups=40, epilogue=(Step("bias"), Step("add"))),
        ConvTask(1, 24, 9, 9, 24, 5, 5, (1, 1), (4, 3, 4, 5), (2, 2), groups=24, epilogue=(Step("hardswish"),)),
        ConvTask(1, 17, 10, 12, 34, 3, 3, (1, 2), (1, 0, 0, 1), groups=17, epilogue=RELU),
        ConvTask(1, 6240, 3, 7, 40, 1, 1, epilogue=(Step("bias"), Step("add"), Step("relu"))),
        ConvTask(1, 256, 5, 6, 40, 5, 5, (1, 1), (2, 2, 2, 2), epilogue=RELU),
        ConvTask(1, 1408, 5, 5, 64, 3, 3, (2, 2), SAME3, groups=2, epilogue=RELU),
    ],
    ids=str,
)
def test_family_matches_oracle(task: ConvTask) -> None:
    assert check_all(task, FAMILIES)


@pytest.mark.parametrize("mcpu", ["haswell", "nehalem"])
@pytest.mark.parametrize(
    "task",
    [
        ConvTask(1, 20, 9, 10, 24, 3, 3, (1, 1), SAME3, epilogue=RELU),
        ConvTask(1, 24, 11, 10, 24, 3, 3, (2, 2), SAME3, groups=24, epilogue=RELU),
        ConvTask(1, 40, 7, 7, 20, 1, 1, groups=4, epilogue=(Step("bias"), Step("add"))),
        ConvTask(1, 256, 4, 6, 24, 5, 5, (1, 1), (2, 2, 2, 2)),
    ],
    ids=str,
)
def test_narrow_vectors_and_two_threads(task: ConvTask, mcpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": str(TARGET.attrs["mtriple"])})
    machine = describe(target, 2)  # what is dealt to two threads is scheduled differently
    assert machine.vector_lanes == {"haswell": 8, "nehalem": 4}[mcpu]
    monkeypatch.setattr(kernel_checks, "TARGET", target)
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    assert check_all(task, FAMILIES)


@st.composite
def conv_tasks(draw: st.DrawFn) -> ConvTask:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    cg, kg = draw(st.integers(1, 20)), draw(st.integers(1, 36))
    if draw(st.integers(0, 3)) == 0:  # depthwise, sometimes with a channel multiplier
        groups, cg, kg = draw(st.integers(2, 40)), 1, draw(st.sampled_from([1, 1, 2]))
    r, s = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (1, 7), (7, 1), (2, 3)]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 3), (4, 4)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2), (1, 3)]))
    pad = tuple(draw(st.tuples(*[st.integers(0, 3)] * 4))) if draw(st.booleans()) else (0, 0, 0, 0)
    h = draw(st.integers(max(1, dilation[0] * (r - 1) + 1 - pad[0] - pad[2]), 20))
    w = draw(st.integers(max(1, dilation[1] * (s - 1) + 1 - pad[1] - pad[3]), 20))
    steps = draw(st.sampled_from([(), RELU, (Step("scale"), Step("add"), Step("leaky", (0.1,)))]))
    return ConvTask(draw(st.integers(1, 2)), groups * cg, h, w, groups * kg, r, s, stride, pad, dilation, groups, steps)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(conv_tasks())
def test_any_convolution_matches_oracle(task: ConvTask) -> None:
    assert "sum2d" in check_all(task, FAMILIES)
