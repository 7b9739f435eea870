"""One Relax call as the extraction sees it, and the registry of converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_globalsel.errors import UserError


@dataclass(frozen=True)
class Call:
    """One Relax call: its arguments as held by the extraction (value names, constants, shapes)."""

    state: Any
    op: str
    args: list[Any]
    attrs: Any
    expr: Any

    def shape(self, index: int) -> tuple[int, ...]:
        """Logical shape of a tensor argument."""
        arg = self.args[index]
        return tuple(arg.shape) if isinstance(arg, np.ndarray) else self.state.shapes[arg]

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Static shape of the result."""
        try:
            return tuple(int(d) for d in self.expr.ty.shape)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.op}: the shape of its result is not static ({self.expr.ty})",
                "fix the input shapes with --shape",
            ) from error

    @property
    def is_float32(self) -> bool:
        """Whether result and all value arguments are float32: what our kernels compute in."""
        flat = [item for arg in self.args for item in (arg if isinstance(arg, tuple) else (arg,))]
        dtypes = {self.state.dtypes[a] for a in flat if isinstance(a, str)}
        return dtypes <= {"float32"} and str(getattr(self.expr.ty, "dtype", "")) == "float32"

    def value(self, index: int = 0) -> str | None:
        """Name of the value argument, or None when it is not a value."""
        return self.args[index] if isinstance(self.args[index], str) else None

    def emit(self, task: Any, inputs: list[str], params: list[np.ndarray] | None = None) -> str:
        """Add an operator under the model's name for this call."""
        name: str = self.state.add(self.state.name_for(self.op), task, inputs, params)
        self.state.calls[name] = self
        return name


Converter = Callable[[Call], Any]
CONVERTERS: dict[str, Converter] = {}


def converts(*ops: str) -> Callable[[Converter], Converter]:
    """Register a converter for Relax operators."""

    def register(function: Converter) -> Converter:
        for op in ops:
            CONVERTERS[op] = function
        return function

    return register


def ints(values: Any) -> tuple[int, ...]:
    """Attribute array to ints."""
    return tuple(int(v) for v in values)
