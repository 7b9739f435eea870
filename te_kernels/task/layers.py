"""Convolution, dense layers and pooling."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from te_kernels.epilogue import Epilogue
from te_kernels.task.base import Shape, Task, window_count, with_epilogue_inputs


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

    @functools.cached_property
    def oh(self) -> int:
        """Output height."""
        return window_count(self.h + self.pad[0] + self.pad[2], self.r, self.stride[0], self.dilation[0])

    @functools.cached_property
    def ow(self) -> int:
        """Output width."""
        return window_count(self.w + self.pad[1] + self.pad[3], self.s, self.stride[1], self.dilation[1])

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
        return with_epilogue_inputs(((self.n, self.c, self.h, self.w),), self.epilogue, self.output_shape)

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
        return with_epilogue_inputs((self.data_shape,), self.epilogue, self.output_shape)

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

    @functools.cached_property
    def oh(self) -> int:
        """Output height."""
        return window_count(self.h + self.pad[0] + self.pad[2], self.r, self.stride[0], self.dilation[0])

    @functools.cached_property
    def ow(self) -> int:
        """Output width."""
        return window_count(self.w + self.pad[1] + self.pad[3], self.s, self.stride[1], self.dilation[1])

    @property
    def is_global(self) -> bool:
        """Whether one window covers the whole map."""
        return (self.r, self.s, self.pad) == (self.h, self.w, (0, 0, 0, 0)) and self.oh == self.ow == 1

    @property
    def output_shape(self) -> Shape:
        return (self.n, self.c, self.oh, self.ow)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return with_epilogue_inputs(((self.n, self.c, self.h, self.w),), self.epilogue, self.output_shape)

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
