"""Epilogues: what happens to an operator's result before it is stored, inside the same kernel.

An epilogue is a tuple of :class:`Step`. ``bias`` and ``scale`` consume a per-channel constant, ``add`` and ``mul``
another tensor of the output's shape (in the output's layout); the rest are scalar functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from te_kernels import vector_math

#: kind -> number of scalar arguments
KINDS = {
    "bias": 0, "scale": 0, "add": 0, "mul": 0,
    "relu": 0, "clip": 2, "leaky": 1, "sigmoid": 0, "silu": 0, "hardswish": 0, "hardsigmoid": 2,
    "tanh": 0, "gelu": 0, "elu": 1, "exp": 0, "sqrt": 0, "abs": 0, "neg": 0,
    "add_scalar": 1, "mul_scalar": 1, "pow_scalar": 1,
}  # fmt: skip
PER_CHANNEL = ("bias", "scale")
TENSOR = ("add", "mul")


@dataclass(frozen=True)
class Step:
    """One step of an epilogue, e.g. ``Step("clip", (0.0, 6.0))``."""

    kind: str
    args: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown epilogue step {self.kind!r}")
        if len(self.args) != KINDS[self.kind] or not all(math.isfinite(a) for a in self.args):
            raise ValueError(f"epilogue step {self.kind!r} takes {KINDS[self.kind]} finite numbers, got {self.args}")

    def __str__(self) -> str:
        return self.kind if not self.args else f"{self.kind}({','.join(f'{a:g}' for a in self.args)})"


Epilogue = tuple[Step, ...]


def channel_count(steps: Epilogue) -> int:
    """How many per-channel constants the epilogue consumes."""
    return sum(step.kind in PER_CHANNEL for step in steps)


def tensor_count(steps: Epilogue) -> int:
    """How many further input tensors the epilogue consumes."""
    return sum(step.kind in TENSOR for step in steps)


def apply(
    value: Any,
    steps: Epilogue,
    channel_constants: Iterable[Callable[..., Any]],
    tensors: Iterable[Callable[..., Any]],
    index: tuple[Any, ...],
) -> Any:
    """The epilogue as a TIR expression of ``value`` at the logical ``index`` (channel second); use it only once.

    ``channel_constants`` yields one reader ``c -> element`` for each per-channel step, ``tensors`` one reader
    ``(*index) -> element`` for each tensor step, both in the order of the steps.
    """
    constants, others = iter(channel_constants), iter(tensors)
    for step in steps:
        if step.kind == "bias":
            value = value + next(constants)(index[1])
        elif step.kind == "scale":
            value = value * next(constants)(index[1])
        elif step.kind == "add":
            value = value + next(others)(*index)
        elif step.kind == "mul":
            value = value * next(others)(*index)
        else:
            value = _scalar_tir(step, value)
    return value


def _scalar_tir(step: Step, x: Any) -> Any:
    f = tirx.const
    kind, a = step.kind, step.args
    one, zero, half = f(1, "float32"), f(0, "float32"), f(0.5, "float32")
    if kind == "relu":
        return te.max(x, zero)
    if kind == "clip":
        return te.min(te.max(x, f(a[0], "float32")), f(a[1], "float32"))
    if kind == "leaky":
        return vector_math.let(x, lambda t: tirx.Select(t > zero, t, t * f(a[0], "float32")))
    if kind == "sigmoid":
        return one / (one + vector_math.exp(zero - x))
    if kind == "silu":
        return vector_math.let(x, lambda t: t / (one + vector_math.exp(zero - t)))
    if kind == "hardsigmoid":
        return te.min(te.max(x * f(a[0], "float32") + f(a[1], "float32"), zero), one)
    if kind == "hardswish":
        return vector_math.let(x, lambda t: t * te.min(te.max(t * f(1 / 6, "float32") + half, zero), one))
    if kind == "tanh":
        # tanh(x) = 1 - 2/(exp(2x)+1): exact limits at both ends, no overflow into NaN
        return one - f(2, "float32") / (vector_math.exp(x * f(2, "float32")) + one)
    if kind == "gelu":
        root_half = f(math.sqrt(0.5), "float32")
        return vector_math.let(x, lambda t: half * t * (one + vector_math.erf(t * root_half)))
    if kind == "elu":
        scale = f(a[0], "float32")
        return vector_math.let(x, lambda t: tirx.Select(t > zero, t, scale * (vector_math.exp(te.min(t, zero)) - one)))
    if kind in ("exp", "sqrt", "abs"):
        return {"exp": vector_math.exp, "sqrt": te.sqrt, "abs": te.abs}[kind](x)
    if kind == "neg":
        return zero - x
    if kind == "add_scalar":
        return x + f(a[0], "float32")
    if kind == "mul_scalar":
        return x * f(a[0], "float32")
    if abs(a[0]) <= 2 and a[0] * 4 == int(a[0] * 4) and a[0] != 0:
        return vector_math.power(x, a[0])  # roots and products: right for negative x too
    return te.power(x, f(a[0], "float32"))  # pow_scalar


def reference(
    value: np.ndarray, steps: Epilogue, channel_constants: list[np.ndarray], tensors: list[np.ndarray]
) -> np.ndarray:
    """The epilogue in float64 numpy on a logical array (channel second): the oracle of :func:`apply`."""
    constants, others = iter(channel_constants), iter(tensors)
    x = value.astype(np.float64)
    broadcast = (1, -1) + (1,) * (value.ndim - 2)
    for step in steps:
        kind, a = step.kind, step.args
        if kind == "bias":
            x = x + next(constants).astype(np.float64).reshape(broadcast)
        elif kind == "scale":
            x = x * next(constants).astype(np.float64).reshape(broadcast)
        elif kind == "add":
            x = x + next(others).astype(np.float64)
        elif kind == "mul":
            x = x * next(others).astype(np.float64)
        else:
            x = _SCALAR_NUMPY[kind](x, *a)
    return x


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return np.asarray(erf(x))


_SCALAR_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "clip": lambda x, lo, hi: np.clip(x, lo, hi),
    "leaky": lambda x, a: np.where(x > 0, x, x * a),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardsigmoid": lambda x, a, b: np.clip(x * a + b, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x * math.sqrt(0.5))),
    "elu": lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "neg": np.negative,
    "add_scalar": lambda x, a: x + a,
    "mul_scalar": lambda x, a: x * a,
    "pow_scalar": lambda x, a: np.power(x, a),
}
