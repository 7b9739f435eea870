"""Tasks: JSON round trips, hostile logs, oracles against independent formulas."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels import check
from te_kernels.epilogue import KINDS, TENSOR, Step
from te_kernels.task import (
    TASK_TYPES,
    ConcatTask,
    ConvTask,
    DenseTask,
    EltwiseTask,
    LrnTask,
    OpaqueTask,
    PairTask,
    PoolTask,
    ShuffleTask,
    SoftmaxTask,
    Task,
    TransformTask,
    ViewTask,
    from_dict,
)

SIZE = st.integers(1, 6)
FLOAT = st.floats(-4, 4).map(float)
STEP = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.tuples(*[FLOAT] * KINDS[kind]).map(lambda args: Step(kind, args))
)
STEPS = st.lists(STEP, max_size=3).map(tuple)
RANK4 = st.tuples(SIZE, SIZE, SIZE, SIZE)

TASKS: st.SearchStrategy[Task] = st.one_of(
    st.builds(
        lambda n, g, c, k, h, w, steps: ConvTask(n, g * c, h, w, g * k, 3, 1, (2, 1), (1, 0, 1, 0), (1, 1), g, steps),
        SIZE, SIZE, SIZE, SIZE, SIZE, SIZE, STEPS,
    ),
    st.builds(
        lambda n, c, k, h, w, steps: PairTask(
            ConvTask(n, c, h, w, k, 1, 1, epilogue=tuple(s for s in steps if s.kind not in TENSOR)),
            ConvTask(n, k, h, w, k, 1, 1, groups=k, epilogue=steps),
        ),
        SIZE, SIZE, SIZE, SIZE, SIZE, STEPS,
    ),
    st.builds(
        lambda n, c, k, h, w, groups: PairTask(
            ShuffleTask((n, c * groups, h, w), groups), ConvTask(n, c * groups, h, w, k * groups, 1, 1, groups=groups)
        ),
        SIZE, SIZE, SIZE, SIZE, SIZE, SIZE,
    ),
    st.builds(
        lambda n, c, k, h, w, steps: PairTask(
            ConvTask(n, c, h, w, k, 1, 1), PoolTask("max", n, k, h, w, 2, 2, (2, 1), (1, 0, 1, 1), epilogue=steps)
        ),
        SIZE, SIZE, SIZE, SIZE, SIZE, STEPS,
    ),
    st.builds(DenseTask, RANK4 | st.tuples(SIZE, SIZE), SIZE, STEPS),
    st.builds(
        lambda mode, n, c, h, w, d, steps: PoolTask(mode, n, c, h, w, 2, 2, (1, 2), (1, 1, 0, 1), (1, 1), d, steps),
        st.sampled_from(["max", "avg"]), SIZE, SIZE, SIZE, SIZE, st.sampled_from(["window", "valid"]), STEPS,
    ),
    st.builds(ConcatTask, SIZE, st.lists(SIZE, min_size=1, max_size=4).map(tuple), SIZE, SIZE, STEPS),
    st.builds(EltwiseTask, RANK4 | st.tuples(SIZE, SIZE, SIZE), STEPS),
    st.builds(LrnTask, RANK4, SIZE, FLOAT, FLOAT, FLOAT, STEPS),
    st.builds(SoftmaxTask, RANK4, st.integers(0, 3)),
    st.builds(lambda n, g, c, h: ShuffleTask((n, g * c, h, h), g), SIZE, SIZE, SIZE, SIZE),
    st.builds(TransformTask, RANK4, st.just("NCHW"), st.just("NHWC")),
    st.builds(lambda s: ViewTask(s, (int(np.prod(s)),)), RANK4),
    st.builds(lambda s: OpaqueTask("op", (s, s), ("float32", "int64"), s, "bool"), RANK4),
)  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(TASKS)
@settings(deadline=None)
def test_round_trip(task: Task) -> None:
    again = from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task
    assert again.key == task.key == str(task)
    assert hash(again) == hash(task)


@given(TASKS)
@settings(max_examples=50, deadline=None)
def test_shapes_and_costs(task: Task) -> None:
    assert task.flops >= 0
    assert task.bytes_moved > 0
    if isinstance(task, OpaqueTask):
        with pytest.raises(TypeError, match="opaque"):
            check.make_case(task)
        return
    with np.errstate(all="ignore"):
        case = check.make_case(task)
    assert case.expected.shape == task.output_shape
    assert tuple(x.shape for x in case.inputs) == task.input_shapes
    assert tuple(p.shape for p in case.params) == task.param_shapes


@given(TASKS, st.data())
@settings(deadline=None)
def test_hostile_fields(task: Task, data: Any) -> None:
    """A log line with any field replaced by any JSON is a task or a ValueError, nothing else."""
    fields = task.to_dict()
    field = data.draw(st.sampled_from(sorted(fields)))
    fields[field] = data.draw(JSON)
    with contextlib.suppress(ValueError):
        assert isinstance(from_dict(fields), Task)


@given(st.dictionaries(st.sampled_from(["kind", "n", "c", "h", "w", "shape", "epilogue", "x"]), JSON))
@settings(deadline=None)
def test_hostile_dictionaries(fields: dict[str, Any]) -> None:
    if isinstance(fields.get("kind"), str) and fields["kind"] in TASK_TYPES:
        return
    with pytest.raises(ValueError, match="unknown task kind"):
        from_dict(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "conv2d", "n": 1, "c": 1 << 20, "h": 1 << 20, "w": 1, "k": 1, "r": 1, "s": 1},
        {"kind": "eltwise", "shape": [1, -5], "epilogue": []},
        {"kind": "eltwise", "shape": [0, 5], "epilogue": []},
        {"kind": "eltwise", "shape": [1, 5], "epilogue": [["bias", 1.0]]},
        {"kind": "eltwise", "shape": [1, 5], "epilogue": [["clip", 0.0, float("inf")]]},
        {"kind": "eltwise", "shape": [1, 5], "epilogue": [["__class__"]]},
        {"kind": "eltwise", "shape": [1, 5]},
        {"kind": "eltwise", "shape": [1, 5], "epilogue": [], "lowered": 1},
        {"kind": "opaque", "text": "", "shapes": [], "dtypes": [], "out_shape": [1], "out_dtype": "f", "lowered": "x"},
        {"kind": "pool2d", "mode": "min", "n": 1, "c": 1, "h": 4, "w": 4, "r": 2, "s": 2, "stride": [1, 1]},
    ],
)
def test_absurd_tasks(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_dict(fields)


def test_max_pool_ignores_padding() -> None:
    task = PoolTask("max", 1, 1, 2, 2, 3, 3, (1, 1), (1, 1, 1, 1))
    x = -np.ones((1, 1, 2, 2), np.float32)
    np.testing.assert_array_equal(task.reference([x], []), -np.ones((1, 1, 2, 2)))


def test_average_divisors() -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    window = PoolTask("avg", 1, 1, 2, 2, 3, 3, (1, 1), (1, 1, 1, 1))
    valid = PoolTask("avg", 1, 1, 2, 2, 3, 3, (1, 1), (1, 1, 1, 1), divisor="valid")
    np.testing.assert_allclose(window.reference([x], []), 4 / 9)
    np.testing.assert_allclose(valid.reference([x], []), 1.0)


def test_shuffle_order() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    assert ShuffleTask((1, 6, 1, 1), 2).reference([x], []).ravel().tolist() == [0, 3, 1, 4, 2, 5]
