"""Operators across and along channels: concatenation, elementwise, normalisation, softmax, shuffle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from te_kernels.epilogue import Epilogue
from te_kernels.task.base import Shape, Task, with_epilogue_inputs


@dataclass(frozen=True)
class ConcatTask(Task):
    """Concatenation of rank-4 tensors along the channels; ``channels`` of each input in order.

    ``owned``: the inputs are nobody else's, so that they may be made inside of the result.
    """

    kind = "concat"
    n: int
    channels: tuple[int, ...]
    h: int
    w: int
    epilogue: Epilogue = ()
    owned: bool = False

    @property
    def output_shape(self) -> Shape:
        return (self.n, sum(self.channels), self.h, self.w)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        parts = tuple((self.n, c, self.h, self.w) for c in self.channels)
        return with_epilogue_inputs(parts, self.epilogue, self.output_shape)

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
        return with_epilogue_inputs((self.shape,), self.epilogue, self.shape)

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
        return with_epilogue_inputs((self.shape,), self.epilogue, self.shape)

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
