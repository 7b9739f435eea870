"""Run a built kernel on seeded random data and compare it with the task's float64 oracle."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.layout import Layout
from te_kernels.task import DenseTask, OpaqueTask, Task
from te_kernels.variant import Variant


@dataclass(frozen=True)
class Case:
    """Seeded logical inputs and parameters of a task, and the float64 result."""

    task: Task
    inputs: list[np.ndarray]
    params: list[np.ndarray]
    expected: np.ndarray


def make_case(task: Task, seed: int = 0) -> Case:
    """Inputs are standard normal; weights are scaled by 1/sqrt(fan-in) so that results stay of order one."""
    rng = np.random.default_rng([seed, zlib.crc32(task.key.encode())])
    positive = any(step.kind in ("sqrt", "pow_scalar") for step in task.steps)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        x = rng.standard_normal(shape, dtype=np.float32)
        return np.abs(x) + np.float32(0.1) if positive else x

    if isinstance(task, OpaqueTask):
        raise TypeError("opaque tasks are checked against their own lowering, not against numpy")
    inputs = [draw(shape) for shape in task.input_shapes]
    params = []
    for shape in task.param_shapes:
        value = draw(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 or isinstance(task, DenseTask) else 1
        params.append(value / np.float32(max(1.0, fan_in) ** 0.5))
    return Case(task, inputs, params, task.reference(inputs, params))


def arguments(case: Case, variant: Variant) -> list[tvm.runtime.Tensor]:
    """Physical arguments of ``variant``; padding lanes of the inputs hold garbage, the output NaN, so leaks show."""
    layouts = variant.layouts(case.task)
    arrays = [Layout(name).pack(x, fill=7.25) for name, x in zip(layouts.inputs, case.inputs, strict=True)]
    arrays += [np.ascontiguousarray(p, dtype=np.float32) for p in variant.pack(case.task, case.params)]
    out_shape = Layout(layouts.output).physical_shape(case.task.output_shape)
    arrays.append(np.full(out_shape, np.nan, np.float32))
    return [tvm.runtime.tensor(a) for a in arrays]


def relative_error(case: Case, variant: Variant, args: list[tvm.runtime.Tensor]) -> float:
    """Largest absolute error relative to the largest reference element; inf when padding or output is not finite."""
    stored = args[-1].numpy()
    if not np.isfinite(stored).all():
        return float("inf")
    result = Layout(variant.layouts(case.task).output).unpack(stored, case.task.output_shape)
    scale = float(np.abs(case.expected).max()) or 1.0
    return float(np.abs(result.astype(np.float64) - case.expected).max()) / scale
