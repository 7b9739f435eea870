"""Winograd over the phases of a first layer's input: the rearrangement by itself, and kernels against the oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tvm

from te_kernels.conv2d._phases import Phases
from te_kernels.conv2d.winograd_nchw_nchwc import WinogradNCHWtoNCHWc
from te_kernels.epilogue import Step
from te_kernels.machine import host_target
from te_kernels.task import ConvTask
from te_kernels.variant import Reject
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, check_all
from tests.te_kernels.test_machines import MACHINES

NAMES = ["winograd_nchw_nchwc", "winograd_nchw_nhwc"]
RESIDUAL = (Step("bias"), Step("add"), Step("relu"))
V = MACHINE.vector_lanes
TASKS = [
    ConvTask(1, 3, 37, 41, 2 * V, 7, 7, (2, 2), (3, 3, 3, 3), epilogue=RESIDUAL),  # ResNet's
    ConvTask(2, 3, 47, 59, V + 5, 11, 11, (4, 4), (2, 1, 0, 2), epilogue=(Step("bias"),)),  # AlexNet's
    ConvTask(1, 1, 30, 29, V, 5, 5, (1, 1), (2, 2, 2, 2)),
    ConvTask(1, 2, 26, 28, 9, 8, 9, (3, 3), (0, 4, 1, 0)),  # phases of a pixel spread over vectors
    ConvTask(1, 4, 21, 40, V, 3, 8, (1, 2), (1, 0, 1, 0), epilogue=RESIDUAL),
    ConvTask(1, 3, 9, 60, V, 1, 7, (1, 2), (0, 9, 0, 12)),  # pixels wholly in the padding
    ConvTask(3, 4, 16, 14, V, 9, 9, (4, 4), (4, 4, 4, 4)),
]


def phases_of(task: ConvTask, x: np.ndarray) -> np.ndarray:
    """By the definition."""
    unstrided, (sh, sw) = Phases(task, V).unstrided, task.stride
    padded = np.zeros((task.n, task.c, unstrided.h * sh + task.h, unstrided.w * sw + task.w), x.dtype)
    padded[:, :, task.pad[0] : task.pad[0] + task.h, task.pad[1] : task.pad[1] + task.w] = x
    return np.stack(
        [
            padded[:, c, p::sh, q::sw][:, : unstrided.h, : unstrided.w]
            for c in range(task.c)
            for p in range(sh)
            for q in range(sw)
        ],
        axis=1,
    )


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_same_convolution(task: ConvTask) -> None:
    task = dataclasses.replace(task, epilogue=())
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(task.input_shapes[0]), rng.standard_normal(task.param_shapes[0])
    phases = Phases(task, V)
    unstrided = phases.unstrided
    assert (unstrided.stride, unstrided.pad, unstrided.output_shape) == ((1, 1), (0, 0, 0, 0), task.output_shape)
    assert Phases(unstrided, V).unstrided == unstrided
    got = unstrided.reference([phases_of(task, x)], [phases.kernel(weight)])
    np.testing.assert_allclose(got, task.reference([x], [weight]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_matches_oracle(task: ConvTask) -> None:
    assert {label.split("[")[0] for label in check_all(task, NAMES)} == set(NAMES)


@pytest.mark.parametrize("name", MACHINES)
def test_on_other_machines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    monkeypatch.setattr(kernel_checks, "MACHINE", machine)
    target = host_target(2) if name == "threads" else tvm.target.Target({"kind": "llvm", "mcpu": machine.mcpu})
    monkeypatch.setattr(kernel_checks, "TARGET", target)
    assert check_all(TASKS[0], NAMES)
    assert check_all(TASKS[3], NAMES)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (ConvTask(1, 8, 20, 20, 16, 7, 7, (2, 2)), "8 input channels"),
        (ConvTask(1, 4, 20, 20, 16, 7, 7, (2, 2), groups=2), "2 groups"),
        (ConvTask(1, 3, 20, 20, 16, 3, 3, (1, 1), dilation=(2, 2)), "dilation"),
        (ConvTask(1, 3, 20, 20, 16, 3, 3, (2, 2)), "phases are 2x2"),
    ],
    ids=["channels", "groups", "dilation", "short"],
)
def test_not_applicable(task: ConvTask, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        list(WinogradNCHWtoNCHWc.candidates(task, MACHINE))
