"""Tasks from their JSON form, which is untrusted data."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

from te_kernels.epilogue import Step
from te_kernels.task.base import Task
from te_kernels.task.channels import ConcatTask, EltwiseTask, LrnTask, ShuffleTask, SoftmaxTask
from te_kernels.task.layers import ConvTask, DenseTask, PoolTask
from te_kernels.task.moves import CastTask, OpaqueTask, TransformTask, ViewTask
from te_kernels.task.pair import PairTask

_MAX_ELEMENTS = 1 << 31

TASK_TYPES: dict[str, type[Task]] = {
    t.kind: t
    for t in (ConvTask, DenseTask, PoolTask, ConcatTask, EltwiseTask, LrnTask, SoftmaxTask, ShuffleTask,
              TransformTask, ViewTask, CastTask, OpaqueTask, PairTask)
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
    if cls is PairTask:
        fields = {name: _part(value) for name, value in fields.items()}
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


def _part(data: Any) -> Task:
    """One task of a pair, which is none itself."""
    if not isinstance(data, dict) or data.get("kind") == PairTask.kind:
        raise ValueError(f"a {PairTask.kind} task is of two tasks that are none")
    return from_dict(data)


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
