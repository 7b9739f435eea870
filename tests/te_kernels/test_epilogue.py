"""Epilogue steps as TIR against their numpy reference, and the vectorised functions they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from te_kernels import epilogue as ep
from te_kernels import vector_math
from te_kernels.epilogue import KINDS, Step
from te_kernels.task import EltwiseTask
from tests.te_kernels.kernel_checks import MACHINE, TARGET, check_all

ARGS = {
    "clip": (-0.5, 0.75), "leaky": (0.1,), "hardsigmoid": (0.2, 0.5), "elu": (1.5,),
    "add_scalar": (0.25,), "mul_scalar": (-3.0,), "pow_scalar": (3.3,),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_step_matches_reference(kind: str) -> None:
    assert check_all(EltwiseTask((2, 5, 3, 4), (Step(kind, ARGS.get(kind, ())),)))


@pytest.mark.parametrize("exponent", [0.5, -0.5, 2.0, -1.0, 0.75, 1.25, -0.75, 3.0, 1.0])
def test_powers(exponent: float) -> None:
    assert check_all(EltwiseTask((1, 37), (Step("pow_scalar", (exponent,)),)))


def test_square_of_negative_numbers() -> None:
    task = EltwiseTask((1, 40), (Step("neg"), Step("pow_scalar", (2.0,))))
    assert check_all(task)


def test_long_chain() -> None:
    steps = (Step("bias"), Step("silu"), Step("mul"), Step("gelu"), Step("scale"), Step("add"), Step("elu", (0.5,)))
    assert check_all(EltwiseTask((1, 6, 5, 4), steps))


def _run(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    data = te.placeholder(x.shape, "float32", name="data")
    out = te.compute(x.shape, lambda i: function(data[i]), name="out")
    sch = tvm.s_tir.Schedule(te.create_prim_func([data, out]))
    (i,) = sch.get_loops(sch.get_sblock("out"))
    _, lane = sch.split(i, [None, MACHINE.vector_lanes])
    sch.vectorize(lane)
    result = tvm.runtime.tensor(np.zeros_like(x))
    tvm.compile(sch.mod, target=TARGET)["main"](tvm.runtime.tensor(x), result)
    return np.asarray(result.numpy(), np.float64)


@pytest.mark.parametrize(
    ("function", "reference", "low", "high"),
    [
        (vector_math.exp, np.exp, -87.0, 88.0),
        (lambda x: vector_math.log(vector_math.exp(x)), lambda x: x, 1.0, 80.0),
        (vector_math.log, np.log, 1e-30, 1e-3),
        (vector_math.log, np.log, 2.0, 1e30),
        (lambda x: vector_math.power(x, -0.75), lambda x: x**-0.75, 1e-6, 1e6),
        (lambda x: vector_math.power(x, 0.6), lambda x: x**0.6, 1e-6, 1e6),
    ],
)
def test_relative_accuracy(function: Any, reference: Any, low: float, high: float) -> None:
    x = np.linspace(low, high, 4096).astype(np.float32)
    np.testing.assert_allclose(_run(function, x), reference(x.astype(np.float64)), rtol=2e-6)


def test_erf_and_saturation() -> None:
    x = np.linspace(-6, 6, 4096).astype(np.float32)
    np.testing.assert_allclose(_run(vector_math.erf, x), scipy.special.erf(x.astype(np.float64)), atol=7e-7)
    extreme = np.tile(np.array([-1e30, -200.0, 200.0, 1e30], np.float32), 16)
    result = _run(vector_math.exp, extreme)
    assert np.isfinite(result).all() and (result[::4] < 1.2e-38).all() and (result[2::4] > 2e38).all()


@given(
    st.text(max_size=8) | st.sampled_from(sorted(KINDS)),
    st.lists(st.floats(), max_size=3).map(tuple),
)
@settings(deadline=None)
def test_steps_are_validated(kind: str, args: tuple[float, ...]) -> None:
    valid = kind in KINDS and len(args) == KINDS[kind] and bool(np.isfinite(args).all())
    if valid:
        assert Step(kind, args).kind == kind
    else:
        with pytest.raises(ValueError, match="epilogue step"):
            Step(kind, args)


def test_counts() -> None:
    steps = (Step("bias"), Step("add"), Step("mul"), Step("scale"), Step("relu"))
    assert (ep.channel_count(steps), ep.tensor_count(steps)) == (2, 2)
