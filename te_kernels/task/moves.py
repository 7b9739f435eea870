"""Tasks that move data or that only TVM knows: layout transforms, views, opaque operators."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from te_kernels.task.base import Shape, Task


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
class CastTask(Task):
    """Conversion between the caller's float32 and the type inside of the network, ``source`` to ``dtype``."""

    kind = "cast"
    shape: Shape
    source: str
    dtype: str

    @property
    def output_shape(self) -> Shape:
        return self.shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    def _reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        return inputs[0].astype(np.float64)


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
