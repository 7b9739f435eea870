"""Operators that importers spell as several Relax calls: local response normalisation and channel shuffle.

The pieces stay in the operator list and vanish as dead code when nothing else reads them.
"""

from __future__ import annotations

from typing import Any

from te_kernels.task import EltwiseTask, LrnTask, ShuffleTask, Task, ViewTask

Match = tuple[Task, list[str]]


def recognise_shuffle(reshape: Any) -> Match | None:
    """``reshape(permute(reshape(x, [n, g, c/g, h, w]), [0, 2, 1, 3, 4]), [n, c, h, w])``."""
    state = reshape.state
    permute = state.calls.get(reshape.args[0])
    if permute is None or permute.op != "relax.permute_dims" or permute.attrs.axes is None:
        return None
    if [int(a) for a in permute.attrs.axes] != [0, 2, 1, 3, 4]:
        return None
    spread = state.calls.get(permute.args[0])
    if spread is None or spread.op != "relax.reshape":
        return None
    shape, (n, groups, per_group, h, w) = spread.shape(0), permute.shape(0)
    if len(shape) != 4 or shape != (n, groups * per_group, h, w) or reshape.out_shape != shape:
        return None
    return ShuffleTask(shape, groups), [spread.args[0]]


def recognise_lrn(divide: Any) -> Match | None:
    """``x / (bias + alpha * avg_pool3d(x*x over channels)) ** beta``, as TVM's ONNX importer spells LRN."""
    state, (x, denominator) = divide.state, divide.args
    task = {op.name: op for op in state.operators[-16:]}  # the pieces were made just before

    def eltwise(name: str, kind: str) -> tuple[float, str] | None:
        op = task.get(name)
        if op is None or not isinstance(op.task, EltwiseTask) or len(op.task.epilogue) != 1:
            return None
        step = op.task.epilogue[0]
        return (step.args[0] if step.args else 0.0, op.inputs[0]) if step.kind == kind else None

    def view(name: str) -> str | None:
        op = task.get(name)
        return op.inputs[0] if op is not None and isinstance(op.task, ViewTask) else None

    power = eltwise(denominator, "pow_scalar")
    added = eltwise(power[1], "add_scalar") if power else None
    scaled = eltwise(added[1], "mul_scalar") if added else None
    pooled = view(scaled[1]) if scaled else None
    pool = state.calls.get(pooled) if pooled else None
    if power is None or added is None or scaled is None or pool is None or pool.op != "relax.nn.avg_pool3d":
        return None
    squares = view(pool.args[0])
    square = eltwise(squares, "mul") if squares else None
    if square is None or tuple(task[squares].inputs) != (x, x):
        return None
    shape = state.shapes[x]
    size = int(pool.attrs.pool_size[0])
    padding = [int(p) for p in pool.attrs.padding]
    plain = [int(p) for p in pool.attrs.pool_size[1:]] == [1, 1] and {int(s) for s in pool.attrs.strides} == {1}
    expected = [(size - 1) // 2, 0, 0, size // 2, 0, 0]
    if not plain or padding != expected or not pool.attrs.count_include_pad or len(shape) != 4:
        return None
    return LrnTask(shape, size, scaled[0], power[0], added[0]), [x]
