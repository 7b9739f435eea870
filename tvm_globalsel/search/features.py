"""Task x variant x knobs as numbers for the predictor."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from typing import Any

import numpy as np

from te_kernels.task import TASK_TYPES, ConvTask, PairTask, PoolTask, Task
from te_kernels.variant import Variant, all_variants
from tvm_globalsel.search.bounds import Rates

#: Typical time over a family's floor (:func:`typical_s`), so that little data suffices to correct it: medians of
#: ``tuning_logs/``.
_TYPICAL = {"direct": 1.2, "fused": 1.4, "strassen": 1.3, "winograd": 1.4, "fft": 1.8, "im2": 1.6, "kn2": 2.3,
            "gemm": 1.7, "dense": 1.8, "depthwise": 3.1, "transform": 4.1, "pool": 4.0, "sum2d": 50.0}  # fmt: skip
_TYPICAL_OTHER = 4.5
#: What a call costs at least, whatever it computes.
_CALL_S = 3e-7
_MISSING = math.nan
_LAYOUT_KNOBS = frozenset({"data", "out", "layout"})


def typical_s(task: Task, variant: Variant, rates: Rates, weights: str, bound_s: float) -> float:
    """A guess without any data: a multiple of the bound, or of the time in which its own form of the weights comes."""
    floor_s = max(bound_s, _streaming_s(task, variant, rates, weights))
    return _CALL_S + floor_s * _TYPICAL.get(variant.family, _TYPICAL_OTHER)


def _streaming_s(task: Task, variant: Variant, rates: Rates, weights: str) -> float:
    """Transformed weights may be larger than the model's; where that is not known, zero."""
    byte_s = rates.memory_byte_s if weights == "memory" else rates.l3_byte_s
    return (variant.packed_bytes(task) or 0) * byte_s


def features(task: Task, variant: Variant, rates: Rates, weights: str, bound_s: float) -> np.ndarray:
    """``(features,)``; NaN stands for what the task or the variant does not have."""
    layouts = variant.layouts(task)
    inputs, output = task.input_shapes, task.output_shape
    streaming_s = _streaming_s(task, variant, rates, weights)
    return np.array([
        list(TASK_TYPES).index(task.kind), *_sizes(task),
        _log(math.prod(output)), _log(math.prod(inputs[0]) if inputs else 0), len(inputs), len(task.param_shapes),
        len(task.steps), weights == "memory",
        _log(task.flops), _log(task.bytes_moved), _log(variant.arithmetic(task)), math.log(bound_s + _CALL_S),
        variant.arithmetic(task) * rates.flop_s / (bound_s or math.inf),
        streaming_s / (bound_s or math.inf), streaming_s / (variant.arithmetic(task) * rates.flop_s or math.inf),
        _log(variant.workspace_bytes(task)),
        _code(variant.family), list(all_variants()).index(variant.name),
        _code(layouts.inputs[0] if layouts.inputs else ""), _code(layouts.output),
        _tail(output, layouts.output), *_knobs(variant),
    ], dtype=np.float32)  # fmt: skip


def _sizes(task: Task) -> list[float]:
    if isinstance(task, PairTask):
        return [task.input_shapes[0][1], *_sizes(task.second)[1:]]
    if isinstance(task, ConvTask | PoolTask):
        k, groups = (task.k, task.groups) if isinstance(task, ConvTask) else (task.c, 1)
        return [task.c, k, task.oh, task.ow, task.r, task.s, *task.stride, groups, max(task.pad)]
    shape = (*task.output_shape, 1, 1, 1, 1)
    return [shape[1], shape[1], shape[2], shape[3], *[_MISSING] * 6]


def _tail(shape: tuple[int, ...], layout: str) -> float:
    """Channels modulo 16: what the last vector of a row holds."""
    return shape[1] % 16 if len(shape) > 1 else _MISSING


def twins(variant: Variant) -> str:
    """The same for instances that differ in nothing but their layouts."""
    own = variant.knobs
    return f"{variant.family} {[(name, own[name]) for name in sorted(own.keys() - _LAYOUT_KNOBS)]}"


def _knobs(variant: Variant) -> list[float]:
    own: dict[str, Any] = variant.knobs
    return [_number(own[name]) if name in own else _MISSING for name in _knob_names()]


def _number(value: Any) -> float:
    return _code(value) if isinstance(value, str) else float(value)


@functools.cache
def _knob_names() -> tuple[str, ...]:
    names = {field.name for cls in all_variants().values() for field in dataclasses.fields(cls)}
    return tuple(sorted(names - _LAYOUT_KNOBS))


def _code(text: str) -> float:
    """A number for a word, the same in every run."""
    return zlib.crc32(text.encode()) % 997


def _log(value: float) -> float:
    return math.log1p(value)
