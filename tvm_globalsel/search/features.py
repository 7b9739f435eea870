"""Task x variant x knobs as numbers for the predictor."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from typing import Any

import numpy as np

from te_kernels.task import TASK_TYPES, ConvTask, PoolTask, Task
from te_kernels.variant import Variant, all_variants
from tvm_globalsel.search.bounds import Rates

#: Typical time over the bound of a family, so that little data suffices to correct it: medians of ``tuning_logs/``.
_TYPICAL = {"direct": 1.2, "strassen": 1.25, "winograd": 1.5, "fft": 2.2, "im2": 1.6, "kn2": 3.5, "gemm": 1.9,
            "dense": 1.2, "depthwise": 3.4, "transform": 4.1, "pool": 5.2, "sum2d": 100.0}  # fmt: skip
_TYPICAL_OTHER = 4.6
#: What a call costs at least, whatever it computes.
_CALL_S = 3e-7
_MISSING = math.nan


def typical_s(bound_s: float, variant: Variant) -> float:
    """A guess without any data."""
    return _CALL_S + bound_s * _TYPICAL.get(variant.family, _TYPICAL_OTHER)


def features(task: Task, variant: Variant, rates: Rates, weights: str, bound_s: float) -> np.ndarray:
    """``(features,)``; NaN stands for what the task or the variant does not have."""
    layouts = variant.layouts(task)
    inputs, output = task.input_shapes, task.output_shape
    return np.array([
        list(TASK_TYPES).index(task.kind), *_sizes(task),
        _log(math.prod(output)), _log(math.prod(inputs[0]) if inputs else 0), len(inputs), len(task.param_shapes),
        len(task.steps), weights == "memory",
        _log(task.flops), _log(task.bytes_moved), _log(variant.arithmetic(task)), math.log(bound_s + _CALL_S),
        variant.arithmetic(task) * rates.flop_s / (bound_s or math.inf), _log(variant.workspace_bytes(task)),
        _code(variant.family), list(all_variants()).index(variant.name),
        _code(layouts.inputs[0] if layouts.inputs else ""), _code(layouts.output),
        _tail(output, layouts.output), *_knobs(variant),
    ], dtype=np.float32)  # fmt: skip


def _sizes(task: Task) -> list[float]:
    if isinstance(task, ConvTask | PoolTask):
        k, groups = (task.k, task.groups) if isinstance(task, ConvTask) else (task.c, 1)
        return [task.c, k, task.oh, task.ow, task.r, task.s, *task.stride, groups, max(task.pad)]
    shape = (*task.output_shape, 1, 1, 1, 1)
    return [shape[1], shape[1], shape[2], shape[3], *[_MISSING] * 6]


def _tail(shape: tuple[int, ...], layout: str) -> float:
    """Channels modulo 16: what the last vector of a row holds."""
    return shape[1] % 16 if len(shape) > 1 else _MISSING


def _knobs(variant: Variant) -> list[float]:
    own: dict[str, Any] = variant.knobs
    return [_number(own[name]) if name in own else _MISSING for name in _knob_names()]


def _number(value: Any) -> float:
    return _code(value) if isinstance(value, str) else float(value)


@functools.cache
def _knob_names() -> tuple[str, ...]:
    names = {field.name for cls in all_variants().values() for field in dataclasses.fields(cls)}
    return tuple(sorted(names - {"data", "out", "layout"}))


def _code(text: str) -> float:
    """A number for a word, the same in every run."""
    return zlib.crc32(text.encode()) % 997


def _log(value: float) -> float:
    return math.log1p(value)
