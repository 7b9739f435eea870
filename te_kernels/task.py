"""Tasks: the shape of one operator, stated once. Everything else (arguments, oracle, FLOPs, log key) derives from it.

Every task names its data inputs by logical shape, its constant parameters by shape, and has a float64 numpy oracle.
Shapes are logical: ``(N, C, H, W)`` for rank 4.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from te_kernels import epilogue as ep
from te_kernels.epilogue import Epilogue, Step

Shape = tuple[int, ...]
_MAX_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class Task:
    """Base of all tasks. ``kind`` is the stable name in logs and plans."""

    kind: ClassVar[str]

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Logical shapes of the data inputs, tensors consumed by the epilogue last."""
        raise NotImplementedError

    @property
    def output_shape(self) -> Shape:
        """Logical shape of the output."""
        raise NotImplementedError

    @property
    def param_shapes(self) -> tuple[Shape, ...]:
        """Logical shapes of the constant parameters, per-channel constants of the epilogue last."""
        return (self.output_shape[1:2],) * ep.channel_count(self.steps)

    @property
    def steps(self) -> Epilogue:
        """The fused epilogue; empty for tasks that take none."""
        return getattr(self, "epilogue", ())

    @property
    def flops(self) -> int:
        """Floating point operations of the textbook algorithm (2 for a multiply-add)."""
        return math.prod(self.output_shape)

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written at least: every input, parameter and output once, in float32."""
        shapes = (*self.input_shapes, *self.param_shapes, self.output_shape)
        return 4 * sum(math.prod(shape) for shape in shapes)

    def reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        """The result in float64: the oracle of every kernel for this task."""
        value = self._reference(inputs, params)
        channel, tensors = ep.channel_count(self.steps), ep.tensor_count(self.steps)
        return ep.reference(
            value,
            self.steps,
            params[len(params) - channel :],
            inputs[len(inputs) - tensors :],
        )

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """JSON form, fields in order; the inverse of :func:`from_dict`."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        if "epilogue" in fields:
            fields["epilogue"] = [[s.kind, *s.args] for s in self.steps]
        return {"kind": self.kind, **json.loads(json.dumps(fields))}

    @property
    def key(self) -> str:
        """Stable, canonical text that identifies the task in logs."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    def __str__(self) -> str:
        return self.key


def _window_count(padded: int, window: int, stride: int, dilation: int) -> int:
    """Positions of a (dilated) window along a padded axis."""
    return (padded - dilation * (window - 1) - 1) // stride + 1


def _with_epilogue_inputs(shapes: tuple[Shape, ...], steps: Epilogue, output: Shape) -> tuple[Shape, ...]:
    return shapes + (output,) * ep.tensor_count(steps)


@dataclass(frozen=True)
class ConvTask(Task):
    """2-D convolution of ``(n, c, h, w)`` with ``k`` filters ``r x s``; ``pad`` is (top, left, bottom, right).

    Parameters: weight ``(k, c // groups, r, s)``, then the epilogue's per-channel constants ``(k,)``.
    """

    kind = "conv2d"
    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    epilogue: Epilogue = ()

    def __post_init__(self) -> None:
        if min(self.n, self.c, self.h, self.w, self.k, self.r, self.s, *self.stride, *self.dilation, self.groups) < 1:
            raise ValueError(f"sizes, strides, dilations and groups must be positive: {self}")
        if min(self.pad) < 0:
            raise ValueError(f"negative padding {self.pad} is not a convolution")
        if self.c % self.groups or self.k % self.groups:
            raise ValueError(f"groups {self.groups} must divide c {self.c} and k {self.k}")
        if self.oh < 1 or self.ow < 1:
            raise ValueError(f"the kernel {self.r}x{self.s} is larger than the padded input {self.h}x{self.w}")

    @property
    def oh(self) -> int:
        """Output height."""
        return _window_count(self.h + self.pad[0] + self.pad[2], self.r, self.stride[0], self.dilation[0])

    @property
    def ow(self) -> int:
        """Output width."""
        return _window_count(self.w + self.pad[1] + self.pad[3], self.s, self.stride[1], self.dilation[1])

    @property
    def depthwise(self) -> bool:
        """Whether each group has exactly one input channel (with any channel multiplier)."""
        return self.groups == self.c and self.groups > 1

    @property
    def pointwise(self) -> bool:
        """Whether this is a 1x1 convolution without padding and with stride 1: a plain matrix product."""
        return (self.r, self.s, self.stride, self.pad) == (1, 1, (1, 1), (0, 0, 0, 0))

    @property
    def output_shape(self) -> Shape:
        return (self.n, self.k, self.oh, self.ow)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _with_epilogue_inputs(((self.n, self.c, self.h, self.w),), self.epilogue, self.output_shape)

    @property
    def param_shapes(self) -> tuple[Shape, ...]:
        return ((self.k, self.c // self.groups, self.r, self.s), *super().param_shapes)

    @property
    def flops(self) -> int:
        return 2 * self.n * self.k * self.oh * self.ow * (self.c // self.groups) * self.r * self.s

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        x, weight = inputs[0].astype(np.float64), params[0].astype(np.float64)
        top, left, bottom, right = self.pad
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        (sh, sw), (dh, dw) = self.stride, self.dilation
        cg, kg = self.c // self.groups, self.k // self.groups
        out = np.zeros((self.n, self.groups, kg, self.oh * self.ow))
        for i in range(self.r):  # one matrix product for each filter element: no im2col buffer
            for j in range(self.s):
                window = x[:, :, i * dh : i * dh + sh * self.oh : sh, j * dw : j * dw + sw * self.ow : sw]
                window = window[:, :, : self.oh, : self.ow].reshape(self.n, self.groups, cg, -1)
                if cg == 1:
                    out += weight[:, 0, i, j].reshape(1, self.groups, kg, 1) * window
                else:
                    out += np.matmul(weight[:, :, i, j].reshape(self.groups, kg, cg), window)
        return out.reshape(self.output_shape)


@dataclass(frozen=True)
class DenseTask(Task):
    """``y = W x`` on rows of ``(n, features)``; ``features`` may be the flattening of a rank-4 ``data_shape``.

    With a rank-4 ``data_shape`` the flattening is part of the operator, so it can read any layout: the weights are
    permuted at compile time. Parameters: weight ``(k, features)`` over row-major features, then epilogue constants.
    """

    kind = "dense"
    data_shape: Shape
    k: int
    epilogue: Epilogue = ()

    @property
    def features(self) -> int:
        """Length of the reduction."""
        return math.prod(self.data_shape[1:])

    @property
    def output_shape(self) -> Shape:
        return (self.data_shape[0], self.k)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _with_epilogue_inputs((self.data_shape,), self.epilogue, self.output_shape)

    @property
    def param_shapes(self) -> tuple[Shape, ...]:
        return ((self.k, self.features), *super().param_shapes)

    @property
    def flops(self) -> int:
        return 2 * self.data_shape[0] * self.features * self.k

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        x = inputs[0].reshape(self.data_shape[0], -1).astype(np.float64)
        return np.asarray(x @ params[0].astype(np.float64).T)


@dataclass(frozen=True)
class PoolTask(Task):
    """Max or average pooling; ``pad`` is (top, left, bottom, right), already including what ceil mode adds.

    ``divisor`` is ``"window"`` (always r*s), ``"valid"`` (the elements inside the input) or, for ceil-mode average
    pooling that counts declared padding, not offered (the frontend refuses it). ``mode`` is ``max`` or ``avg``.
    """

    kind = "pool2d"
    mode: str
    n: int
    c: int
    h: int
    w: int
    r: int
    s: int
    stride: tuple[int, int]
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    divisor: str = "window"
    epilogue: Epilogue = ()

    def __post_init__(self) -> None:
        if self.mode not in ("max", "avg") or self.divisor not in ("window", "valid"):
            raise ValueError(f"pool mode {self.mode!r} / divisor {self.divisor!r} unknown")

    @property
    def oh(self) -> int:
        """Output height."""
        return _window_count(self.h + self.pad[0] + self.pad[2], self.r, self.stride[0], self.dilation[0])

    @property
    def ow(self) -> int:
        """Output width."""
        return _window_count(self.w + self.pad[1] + self.pad[3], self.s, self.stride[1], self.dilation[1])

    @property
    def is_global(self) -> bool:
        """Whether one window covers the whole map."""
        return (self.r, self.s, self.pad) == (self.h, self.w, (0, 0, 0, 0)) and self.oh == self.ow == 1

    @property
    def output_shape(self) -> Shape:
        return (self.n, self.c, self.oh, self.ow)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _with_epilogue_inputs(((self.n, self.c, self.h, self.w),), self.epilogue, self.output_shape)

    @property
    def flops(self) -> int:
        return math.prod(self.output_shape) * self.r * self.s

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        x = inputs[0].astype(np.float64)
        top, left, bottom, right = self.pad
        widths = ((0, 0), (0, 0), (top, bottom), (left, right))
        (sh, sw), (dh, dw) = self.stride, self.dilation

        def windows(padded: np.ndarray) -> np.ndarray:
            return np.stack(
                [
                    padded[:, :, i * dh : i * dh + sh * self.oh : sh, j * dw : j * dw + sw * self.ow : sw]
                    for i in range(self.r)
                    for j in range(self.s)
                ]
            )

        if self.mode == "max":
            return np.asarray(windows(np.pad(x, widths, constant_values=-np.inf)).max(0))
        total = windows(np.pad(x, widths)).sum(0)
        if self.divisor == "window":
            return np.asarray(total / (self.r * self.s))
        return np.asarray(total / windows(np.pad(np.ones_like(x), widths)).sum(0))


@dataclass(frozen=True)
class ConcatTask(Task):
    """Concatenation of rank-4 tensors along the channels; ``channels`` of each input in order."""

    kind = "concat"
    n: int
    channels: tuple[int, ...]
    h: int
    w: int
    epilogue: Epilogue = ()

    @property
    def output_shape(self) -> Shape:
        return (self.n, sum(self.channels), self.h, self.w)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        parts = tuple((self.n, c, self.h, self.w) for c in self.channels)
        return _with_epilogue_inputs(parts, self.epilogue, self.output_shape)

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([x.astype(np.float64) for x in inputs[: len(self.channels)]], axis=1)


@dataclass(frozen=True)
class EltwiseTask(Task):
    """Nothing but an epilogue: activations, per-channel affine maps, sums of tensors that no kernel absorbed."""

    kind = "eltwise"
    shape: Shape
    epilogue: Epilogue

    @property
    def output_shape(self) -> Shape:
        return self.shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _with_epilogue_inputs((self.shape,), self.epilogue, self.shape)

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        return inputs[0]


@dataclass(frozen=True)
class LrnTask(Task):
    """Local response normalisation across channels, as ONNX defines it:

    ``y = x / (bias + alpha / size * sum(x[c - (size-1)//2 .. c + size//2]**2)) ** beta``.
    """

    kind = "lrn"
    shape: Shape
    size: int
    alpha: float
    beta: float
    bias: float
    epilogue: Epilogue = ()

    @property
    def output_shape(self) -> Shape:
        return self.shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _with_epilogue_inputs((self.shape,), self.epilogue, self.shape)

    @property
    def flops(self) -> int:
        return math.prod(self.shape) * (2 * self.size + 10)

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        x = inputs[0].astype(np.float64)
        before, after = (self.size - 1) // 2, self.size // 2
        squares = np.pad(x * x, ((0, 0), (before, after), (0, 0), (0, 0)))
        total = np.stack([squares[:, i : i + x.shape[1]] for i in range(self.size)]).sum(0)
        return np.asarray(x / (self.bias + self.alpha / self.size * total) ** self.beta)


@dataclass(frozen=True)
class SoftmaxTask(Task):
    """Softmax over ``axis`` (non-negative) of a tensor of any rank."""

    kind = "softmax"
    shape: Shape
    axis: int

    @property
    def output_shape(self) -> Shape:
        return self.shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    @property
    def flops(self) -> int:
        return math.prod(self.shape) * 12

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        x = inputs[0].astype(np.float64)
        e = np.exp(x - x.max(self.axis, keepdims=True))
        return np.asarray(e / e.sum(self.axis, keepdims=True))


@dataclass(frozen=True)
class ShuffleTask(Task):
    """Channel shuffle (ShuffleNet): output channel ``j * groups + i`` is input channel ``i * (C / groups) + j``."""

    kind = "shuffle"
    shape: Shape
    groups: int

    @property
    def output_shape(self) -> Shape:
        return self.shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        n, c, h, w = self.shape
        x = inputs[0].astype(np.float64).reshape(n, self.groups, c // self.groups, h, w)
        return x.transpose(0, 2, 1, 3, 4).reshape(self.shape)


@dataclass(frozen=True)
class TransformTask(Task):
    """Change of layout of a rank-4 tensor from ``source`` to ``destination`` (layout names)."""

    kind = "transform"
    shape: Shape
    source: str
    destination: str

    @property
    def output_shape(self) -> Shape:
        return self.shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        return inputs[0].astype(np.float64)


@dataclass(frozen=True)
class ViewTask(Task):
    """A reshape of row-major data: no kernel, no time; ``from_shape`` to ``to_shape``."""

    kind = "view"
    from_shape: Shape
    to_shape: Shape

    @property
    def output_shape(self) -> Shape:
        return self.to_shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.from_shape,)

    @property
    def flops(self) -> int:
        return 0

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        return inputs[0].astype(np.float64).reshape(self.to_shape)


@dataclass(frozen=True)
class OpaqueTask(Task):
    """Any other operator, computed by TVM's own lowering in the caller's layout under our generic schedule.

    ``text`` is the operator with its attributes, shapes and dtypes, and identifies the task; ``lowered`` is the
    unscheduled PrimFunc (inputs..., constants..., output), which is both what gets scheduled and what results are
    checked against. ``dtypes`` are those of the inputs, then of the constants.
    """

    kind = "opaque"
    text: str
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    out_shape: Shape
    out_dtype: str
    constant_shapes: tuple[Shape, ...] = ()
    lowered: Any = dataclasses.field(compare=False, repr=False, default=None)

    @property
    def param_shapes(self) -> tuple[Shape, ...]:
        return self.constant_shapes

    @property
    def output_shape(self) -> Shape:
        return self.out_shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return self.shapes


TASK_TYPES: dict[str, type[Task]] = {
    t.kind: t
    for t in (ConvTask, DenseTask, PoolTask, ConcatTask, EltwiseTask, LrnTask, SoftmaxTask, ShuffleTask,
              TransformTask, ViewTask, OpaqueTask)
}  # fmt: skip


def from_dict(data: dict[str, Any]) -> Task:
    """Rebuild a task from its JSON form.

    Raises ValueError when the form is not that of a known task or its sizes are absurd: logs are untrusted data.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in TASK_TYPES:
        raise ValueError(f"unknown task kind {kind!r}")
    cls = TASK_TYPES[kind]
    known = {f.name for f in dataclasses.fields(cls) if f.compare}
    if not set(fields) <= known:
        raise ValueError(f"unknown fields {sorted(set(fields) - known)} of a {kind} task")
    hints = typing.get_type_hints(cls)
    try:
        if "epilogue" in fields:
            fields["epilogue"] = tuple(Step(s[0], tuple(float(a) for a in s[1:])) for s in fields["epilogue"])
        fields = {name: _tuples(value) for name, value in fields.items()}
        wrong = [name for name, value in fields.items() if not _has_type(value, hints[name])]
        if wrong:
            raise ValueError(f"fields {wrong} of a {kind} task have the wrong type or are out of range")
        task = cls(**fields)
        shapes = (*task.input_shapes, task.output_shape, *task.param_shapes)
    except (TypeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"malformed {kind} task: {error}") from error
    if any(math.prod(shape) > _MAX_ELEMENTS or min(shape, default=1) < 1 for shape in shapes):
        raise ValueError(f"a tensor of this {kind} task is empty or too large: {shapes}")
    return task


def _has_type(value: Any, hint: Any) -> bool:
    """Whether an untrusted value is of the annotated type: int, float, str, Step, or tuples of those."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, tuple):
            return False
        if inner[-1] is Ellipsis:
            return all(_has_type(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(_has_type, value, inner))
    if hint is int:
        return type(value) is int and abs(value) <= _MAX_ELEMENTS
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return isinstance(value, hint)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
