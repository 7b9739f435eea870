"""Every convolution variant and layout on generated shapes and epilogues, against the float64 oracle."""

from __future__ import annotations

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

#: One step of every kind.
STEPS = [
    Step("bias"), Step("scale"), Step("relu"), Step("add"), Step("leaky", (0.1,)), Step("mul"), Step("clip", (-2, 3)),
    Step("abs"), Step("sqrt"), Step("elu", (0.7,)), Step("neg"), Step("hardswish"), Step("tanh"),
    Step("add_scalar", (0.3,)), Step("silu"), Step("gelu"), Step("sigmoid"), Step("hardsigmoid", (0.2, 0.5)),
    Step("mul_scalar", (2.0,)), Step("exp"), Step("pow_scalar", (0.75,)),
]  # fmt: skip


def instances(task: ConvTask) -> list[Variant]:
    """The first candidate of every variant in every pair of layouts it offers."""
    found: dict[tuple[str, str], Variant] = {}
    for cls in variants_for(task, MACHINE):
        try:
            for variant in cls.candidates(task, MACHINE):
                found.setdefault((variant.name, str(variant.layouts(task))), variant)
        except Reject as reason:
            assert str(reason).strip(), f"{cls.name} rejects {task} without a reason"
    return list(found.values())


def check_instances(pairs: list[tuple[ConvTask, Variant]]) -> None:
    """Build all kernels as one module and compare each with its oracle."""
    functions = {
        f"kernel{i}": v.prim_func(task, MACHINE).with_attr("global_symbol", f"kernel{i}")
        for i, (task, v) in enumerate(pairs)
    }
    module = tvm.compile(tvm.IRModule(functions), target=TARGET)
    for i, (task, variant) in enumerate(pairs):
        case = check.make_case(task)
        args = check.arguments(case, variant)
        module[f"kernel{i}"](*args)
        error = check.relative_error(case, variant, args)
        assert error <= variant.error_bound(task), f"{variant.label} on {task}: relative error {error:.2e}"


SHAPES = [
    ConvTask(2, 18, 6, 7, 20, 3, 3, (1, 1), (1, 1, 1, 1)),
    ConvTask(1, 16, 5, 5, 33, 1, 1),
    ConvTask(3, 20, 6, 5, 20, 3, 3, (1, 1), (1, 1, 1, 1), groups=20),
]
SHAPE_IDS = ["3x3", "1x1", "depthwise"]


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def test_every_epilogue_step_and_every_variant(shape: ConvTask) -> None:
    """Each kind of step in some variant, and each variant with some step, in one pass around both lists."""
    count = max(len(STEPS), len(instances(shape)))
    pairs = []
    for i in range(count):
        task = replace(shape, epilogue=(STEPS[i % len(STEPS)],))
        variants = instances(task)
        pairs.append((task, variants[i % len(variants)]))
    check_instances(pairs)


def test_the_steps_have_every_kind() -> None:
    assert {step.kind for step in STEPS} == set(KINDS)


@st.composite
def conv_tasks(draw: st.DrawFn) -> ConvTask:
    """Batch 1-8, stride 1-4, dilation, groups, kernels 1x1 to 7x7 and one-dimensional ones, padding uneven."""
    r, s = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (1, 7), (7, 1), (1, 3), (3, 1), (2, 4)]))
    groups = draw(st.sampled_from([1, 1, 2, 3, 4]))
    cg, kg = draw(st.integers(1, 19)), draw(st.integers(1, 20))
    if draw(st.integers(0, 3)) == 0:  # depthwise, sometimes with a channel multiplier
        groups, cg, kg = draw(st.integers(2, 37)), 1, draw(st.sampled_from([1, 1, 2, 3]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 3), (4, 4), (1, 2), (3, 1), (4, 2)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2), (3, 1)]))
    pad = draw(st.sampled_from([(0, 0, 0, 0), (r // 2, s // 2, r // 2, s // 2), None]))
    if pad is None:
        pad = tuple(draw(st.integers(0, limit)) for limit in (r, s, r, s))
    low = (dilation[0] * (r - 1) + 1 - pad[0] - pad[2], dilation[1] * (s - 1) + 1 - pad[1] - pad[3])
    h, w = (draw(st.integers(max(1, least), max(1, least) + 7)) for least in low)
    steps = tuple(draw(st.lists(st.sampled_from(STEPS), max_size=2)))
    if any(step.kind in ("sqrt", "pow_scalar") for step in steps):  # after a sign change they would see negative data
        steps = (Step("abs"), *[step for step in steps if step.kind in ("sqrt", "pow_scalar", "bias", "mul", "add")])
    batch = draw(st.sampled_from([1, 1, 2, 3, 5, 8]))
    return ConvTask(batch, groups * cg, h, w, groups * kg, r, s, stride, pad, dilation, groups, steps)


@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(conv_tasks())
def test_any_convolution(task: ConvTask) -> None:
    variants = list({variant.name: variant for variant in reversed(instances(task))}.values())
    assert "sum2d" in {variant.name for variant in variants}
    check_instances([(task, variant) for variant in variants])
