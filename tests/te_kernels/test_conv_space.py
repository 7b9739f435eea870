"""Every convolution variant and layout on generated shapes and epilogues, against the float64 oracle."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.epilogue import KINDS, Step
from te_kernels.task import ConvTask
from te_kernels.variant import Reject, Variant, variants_for
from tests.te_kernels.kernel_checks import MACHINE, TARGET

#: One step of every kind, in chains whose values stay of order one (roots and powers see positive data only).
CHAINS = [
    (Step("bias"), Step("scale"), Step("relu"), Step("add"), Step("leaky", (0.1,)), Step("mul"), Step("clip", (-2, 3))),
    (Step("abs"), Step("sqrt"), Step("elu", (0.7,)), Step("neg"), Step("hardswish"), Step("tanh"),
     Step("add_scalar", (0.3,))),
    (Step("silu"), Step("gelu"), Step("sigmoid"), Step("hardsigmoid", (0.2, 0.5)), Step("mul_scalar", (2.0,)),
     Step("exp"), Step("pow_scalar", (0.75,))),
]  # fmt: skip
STEPS = [step for chain in CHAINS for step in chain]


def instances(task: ConvTask) -> list[Variant]:
    """The first candidate of every variant in every pair of layouts it offers."""
    found: dict[tuple[str, str], Variant] = {}
    for cls in variants_for(task):
        try:
            for variant in cls.candidates(task, MACHINE):
                found.setdefault((variant.name, str(variant.layouts(task))), variant)
        except Reject as reason:
            assert str(reason).strip(), f"{cls.name} rejects {task} without a reason"
    return list(found.values())


def check_instances(task: ConvTask) -> int:
    """Build all instances as one module and compare each with the oracle; returns how many there were."""
    variants = instances(task)
    functions = {
        f"kernel{i}": v.prim_func(task, MACHINE).with_attr("global_symbol", f"kernel{i}")
        for i, v in enumerate(variants)
    }
    module = tvm.compile(tvm.IRModule(functions), target=TARGET)
    case = check.make_case(task)
    for i, variant in enumerate(variants):
        args = check.arguments(case, variant)
        module[f"kernel{i}"](*args)
        error = check.relative_error(case, variant, args)
        assert error <= variant.relative_error, f"{variant.label} on {task}: relative error {error:.2e}"
    return len(variants)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain[0].kind)
@pytest.mark.parametrize(
    "shape",
    [
        ConvTask(2, 18, 7, 9, 20, 3, 3, (1, 1), (1, 1, 1, 1)),
        ConvTask(1, 16, 5, 5, 33, 1, 1),
        ConvTask(3, 20, 6, 7, 20, 3, 3, (1, 1), (1, 1, 1, 1), groups=20),
    ],
    ids=["3x3", "1x1", "depthwise"],
)
def test_every_epilogue_step(shape: ConvTask, chain: tuple[Step, ...]) -> None:
    assert check_instances(replace(shape, epilogue=chain)) > 3


def test_the_chains_have_every_kind() -> None:
    assert {step.kind for step in STEPS} == set(KINDS)


@st.composite
def conv_tasks(draw: st.DrawFn) -> ConvTask:
    """Batch 1-8, stride 1-4, dilation, groups, kernels 1x1 to 7x7 and one-dimensional ones, padding uneven."""
    r, s = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (1, 7), (7, 1), (1, 3), (3, 1), (2, 4)]))
    groups = draw(st.sampled_from([1, 1, 2, 3, 4]))
    cg, kg = draw(st.integers(1, 19)), draw(st.integers(1, 35))
    if draw(st.integers(0, 3)) == 0:  # depthwise, sometimes with a channel multiplier
        groups, cg, kg = draw(st.integers(2, 37)), 1, draw(st.sampled_from([1, 1, 2, 3]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 3), (4, 4), (1, 2), (3, 1), (4, 2)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2), (3, 1)]))
    pad = draw(st.sampled_from([(0, 0, 0, 0), (r // 2, s // 2, r // 2, s // 2), None]))
    if pad is None:
        pad = tuple(draw(st.integers(0, limit)) for limit in (r, s, r, s))
    low = (dilation[0] * (r - 1) + 1 - pad[0] - pad[2], dilation[1] * (s - 1) + 1 - pad[1] - pad[3])
    h, w = (draw(st.integers(max(1, least), max(1, least) + 13)) for least in low)
    steps = tuple(draw(st.lists(st.sampled_from(STEPS), max_size=2)))
    if any(step.kind in ("sqrt", "pow_scalar") for step in steps):  # after a sign change they would see negative data
        steps = (Step("abs"), *[step for step in steps if step.kind in ("sqrt", "pow_scalar", "bias", "mul", "add")])
    batch = draw(st.sampled_from([1, 1, 2, 3, 5, 8]))
    return ConvTask(batch, groups * cg, h, w, groups * kg, r, s, stride, pad, dilation, groups, steps)


@settings(max_examples=14, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(conv_tasks())
def test_any_convolution(task: ConvTask) -> None:
    assert math.prod(task.output_shape) > 0
    assert check_instances(task) > 0
