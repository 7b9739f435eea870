"""Elementwise operators: scalar functions, sums and products, per-channel affine maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import te, topi

from te_kernels.epilogue import Step
from te_kernels.task import EltwiseTask
from tvm_globalsel.relax_ops.call import Call, converts
from tvm_globalsel.relax_ops.recognise import recognise_lrn

_UNARY = {
    "relax.nn.relu": Step("relu"), "relax.sigmoid": Step("sigmoid"), "relax.tanh": Step("tanh"),
    "relax.nn.silu": Step("silu"), "relax.nn.gelu": Step("gelu"), "relax.exp": Step("exp"),
    "relax.sqrt": Step("sqrt"), "relax.abs": Step("abs"), "relax.negative": Step("neg"),
    "relax.nn.relu6": Step("clip", (0.0, 6.0)),
}  # fmt: skip


@converts(*_UNARY)
def _unary(call: Call) -> Any:
    return _eltwise(call, (_UNARY[call.op],), [call.args[0]])


@converts("relax.nn.leakyrelu")
def _leaky(call: Call) -> Any:
    return _eltwise(call, (Step("leaky", (float(call.attrs.alpha),)),), [call.args[0]])


@converts("relax.clip")
def _clip(call: Call) -> Any:
    low, high = (_scalar(arg) for arg in call.args[1:3])
    if low is None or high is None:
        return None
    limit = float(np.finfo(np.float32).max)
    bounds = (max(low, -limit), min(high, limit))
    return _eltwise(call, (Step("relu") if bounds == (0.0, limit) else Step("clip", bounds),), [call.args[0]])


@converts("relax.add", "relax.multiply", "relax.subtract", "relax.divide", "relax.power", "relax.minimum",
          "relax.maximum")  # fmt: skip
def _binary(call: Call) -> Any:
    left, right = call.args
    kind = call.op.rsplit(".", 1)[-1]
    if isinstance(left, str) and isinstance(right, str):
        normalised = recognise_lrn(call) if kind == "divide" else None
        if normalised is not None:
            return call.emit(*normalised)
        if call.shape(0) != call.shape(1) or kind not in ("add", "multiply"):
            return None
        return _eltwise(call, (Step({"add": "add", "multiply": "mul"}[kind]),), [left, right])
    if isinstance(left, np.ndarray):
        scalar = _scalar(left)
        if kind == "subtract" and scalar is not None and call.out_shape == call.shape(1):
            return _eltwise(call, (Step("neg"), Step("add_scalar", (scalar,))), [right])
        if kind not in ("add", "multiply", "minimum", "maximum"):
            return None
        left, right = right, left
    shape = call.state.shapes[left]
    if call.out_shape != shape:
        return None
    scalar = _scalar(right)
    if scalar is not None:
        step = _scalar_step(kind, scalar)
        return None if step is None else _eltwise(call, (step,), [left])
    channels = _per_channel(right, shape)
    if channels is None or kind not in ("add", "multiply", "subtract", "divide"):
        return None
    if kind == "subtract":
        kind, channels = "add", -channels
    elif kind == "divide":
        kind, channels = "multiply", 1.0 / channels
    return _eltwise(call, (Step({"add": "bias", "multiply": "scale"}[kind]),), [left], [channels])


def _scalar_step(kind: str, x: float) -> Step | None:
    limit = float(np.finfo(np.float32).max)
    if kind == "maximum":
        return Step("relu") if x == 0 else Step("clip", (x, limit))
    if kind == "minimum":
        return Step("clip", (-limit, x))
    if kind == "divide":
        return Step("mul_scalar", (1.0 / x,)) if x else None
    if kind == "subtract":
        return Step("add_scalar", (-x,))
    return Step({"add": "add_scalar", "multiply": "mul_scalar", "power": "pow_scalar"}[kind], (x,))


def _eltwise(call: Call, steps: tuple[Step, ...], inputs: list[Any], params: list[np.ndarray] | None = None) -> Any:
    if not call.is_float32 or not isinstance(inputs[0], str):
        return None
    return call.emit(EltwiseTask(call.state.shapes[inputs[0]], steps), inputs, params)


def _scalar(value: Any) -> float | None:
    """A number from a constant with one element or from a Relax scalar, else None."""
    if isinstance(value, np.ndarray):
        return float(value.reshape(())) if value.size == 1 and np.isfinite(value).all() else None
    try:
        return float(getattr(value, "value", value))
    except (TypeError, ValueError):
        return None


def _per_channel(constant: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A constant that varies along axis 1 only, as ``(channels,)`` in float64, else None."""
    aligned = (1,) * (len(shape) - constant.ndim) + constant.shape
    if len(shape) < 2 or len(aligned) != len(shape):
        return None
    if any(size != 1 for axis, size in enumerate(aligned) if axis != 1) or aligned[1] != shape[1]:
        return None
    return constant.reshape(-1).astype(np.float64)


@converts("relax.call_tir")
def _call_tir(call: Call) -> Any:
    """TVM's importer spells some operators (Clip's bounds) as TE; those are recognised by comparing the TIR itself."""
    left, right = call.args[1] if len(call.args[1]) == 2 else (None, None)
    if not isinstance(left, str) or not isinstance(right, np.ndarray):
        return None
    scalar = float(right.reshape(())) if right.size == 1 else None
    shape = call.state.shapes[left]
    for kind, compute in (("maximum", topi.maximum), ("minimum", topi.minimum)):
        if scalar is None or np.isnan(scalar) or not call.is_float32:
            continue
        operands = [te.placeholder([tvm.tirx.IntImm("int64", d) for d in s], "float32") for s in (shape, right.shape)]
        expected = te.create_prim_func([*operands, compute(*operands)])
        given = call.state.module[call.args[0]]
        if tvm_ffi.structural_equal(given.body, expected.body, map_free_vars=True):
            if np.isinf(scalar):
                return left
            step = _scalar_step(kind, scalar)
            return None if step is None else _eltwise_of(call, step, left)
    return None


def _eltwise_of(call: Call, step: Step, source: str) -> Any:
    return call.emit(EltwiseTask(call.state.shapes[source], (step,)), [source])
