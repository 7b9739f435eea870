"""Run a built kernel on seeded random data and compare it with the task's float64 oracle."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.layout import Layout
from te_kernels.task import CastTask, DenseTask, OpaqueTask, Task
from te_kernels.variant import Variant


@dataclass(frozen=True)
class Case:
    """Seeded logical inputs and parameters of a task, and the float64 result."""

    task: Task
    inputs: list[np.ndarray]
    params: list[np.ndarray]
    expected: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in (*self.inputs, *self.params, self.expected))


def make_case(task: Task, seed: int = 0, dtype: str = "float32") -> Case:
    """Inputs are standard normal; weights are scaled by 1/sqrt(fan-in) so that results stay of order one.

    All are numbers that ``dtype`` can hold, so that the kernel and the oracle start from the same.
    """
    rng = np.random.default_rng([seed, zlib.crc32(task.key.encode())])
    positive = any(step.kind in ("sqrt", "pow_scalar") for step in task.steps)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        x = rng.standard_normal(shape, dtype=np.float32)
        return np.asarray(np.abs(x) + np.float32(0.1) if positive else x, dtype).astype(np.float32)

    if isinstance(task, OpaqueTask):
        raise TypeError("opaque tasks are checked against their own lowering, not against numpy")
    inputs = [draw(shape) for shape in task.input_shapes]
    params = []
    for shape in task.param_shapes:
        value = draw(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 or isinstance(task, DenseTask) else 1
        params.append((value / np.float32(max(1.0, fan_in) ** 0.5)).astype(dtype).astype(np.float32))
    return Case(task, inputs, params, task.reference(inputs, params))


def arguments(case: Case, variant: Variant, dtype: str = "float32") -> list[tvm.runtime.Tensor]:
    """Physical arguments of ``variant`` in a network of type ``dtype``.

    Padding lanes of the inputs hold garbage, the output NaN, so leaks show.
    """
    layouts = variant.layouts(case.task)
    task, before, after = case.task, dtype, dtype
    if isinstance(task, CastTask):
        before, after = task.source, task.dtype
    arrays = [
        Layout(name).pack(x, fill=7.25).astype(before) for name, x in zip(layouts.inputs, case.inputs, strict=True)
    ]
    for p in variant.pack(task, case.params):
        arrays.append(np.ascontiguousarray(p, dtype=p.dtype if p.dtype == np.float16 else np.float32))
    out_shape = Layout(layouts.output).physical_shape(case.task.output_shape)
    arrays.append(np.full(out_shape, np.nan, after))
    return [tvm.runtime.tensor(a) for a in arrays]


def tolerance(variant: Variant, task: Task, dtype: str = "float32") -> float:
    """Largest relative error allowed: the variant's own, or what rounding to ``dtype`` costs where that is more."""
    own = variant.error_bound(task)
    return own if dtype == "float32" else max(own, 2e-3)


def relative_error(case: Case, variant: Variant, args: list[tvm.runtime.Tensor]) -> float:
    """Largest absolute error relative to the largest reference element; inf when padding or output is not finite."""
    stored = args[-1].numpy()
    if not np.isfinite(stored).all():
        return float("inf")
    result = Layout(variant.layouts(case.task).output).unpack(stored, case.task.output_shape)
    scale = float(np.abs(case.expected).max()) or 1.0
    return float(np.abs(result.astype(np.float64) - case.expected).max()) / scale
