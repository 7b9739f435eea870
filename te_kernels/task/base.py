"""What all tasks share: shapes, sizes, the float64 oracle with its epilogue, the log key."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from te_kernels import epilogue as ep
from te_kernels.epilogue import Epilogue

Shape = tuple[int, ...]


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

    @functools.cached_property
    def key(self) -> str:
        """Stable, canonical text that identifies the task in logs."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    def __str__(self) -> str:
        return self.key


def window_count(padded: int, window: int, stride: int, dilation: int) -> int:
    """Positions of a (dilated) window along a padded axis."""
    return (padded - dilation * (window - 1) - 1) // stride + 1


def with_epilogue_inputs(shapes: tuple[Shape, ...], steps: Epilogue, output: Shape) -> tuple[Shape, ...]:
    """Data input shapes with one more of the output's shape for each tensor the epilogue consumes."""
    return shapes + (output,) * ep.tensor_count(steps)
