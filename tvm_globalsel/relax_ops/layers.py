"""Convolution, pooling, dense layers and what only changes shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from te_kernels.epilogue import Step
from te_kernels.task import ConcatTask, ConvTask, DenseTask, EltwiseTask, PoolTask, SoftmaxTask, ViewTask
from tvm_globalsel.relax_ops.call import Call, converts, ints
from tvm_globalsel.relax_ops.recognise import recognise_shuffle


@converts("relax.nn.conv2d")
def _conv2d(call: Call) -> Any:
    a = call.attrs
    weight = call.args[1]
    if not (isinstance(weight, np.ndarray) and call.value() and call.is_float32):
        return None
    if (a.data_layout, a.kernel_layout) != ("NCHW", "OIHW"):
        return None
    n, c, h, w = call.shape(0)
    k, _, r, s = weight.shape
    pads = ints(a.padding)
    task = ConvTask(n, c, h, w, k, r, s, ints(a.strides), pads, ints(a.dilation), int(a.groups))  # type: ignore[arg-type]
    return call.emit(task, [call.args[0]], [weight])


@converts("relax.nn.max_pool2d", "relax.nn.avg_pool2d")
def _pool2d(call: Call) -> Any:
    a = call.attrs
    if not (call.value() and call.is_float32) or a.layout != "NCHW":
        return None
    n, c, h, w = call.shape(0)
    (r, s), (sh, sw), (dh, dw) = ints(a.pool_size), ints(a.strides), ints(a.dilation)
    top, left, bottom, right = ints(a.padding)
    _, _, oh, ow = call.out_shape
    # ceil mode: the extra rows and columns become padding
    more_h = max(0, (oh - 1) * sh + dh * (r - 1) + 1 - (h + top + bottom))
    more_w = max(0, (ow - 1) * sw + dw * (s - 1) + 1 - (w + left + right))
    mode = "max" if "max" in call.op else "avg"
    padded = any((top, left, bottom, right)) or more_h or more_w
    divisor = "window"
    if mode == "avg" and padded:
        if a.count_include_pad and (more_h or more_w):
            return None  # counts declared padding but not the ceil-mode rest
        divisor = "window" if a.count_include_pad else "valid"
    task = PoolTask(mode, n, c, h, w, r, s, (sh, sw), (top, left, bottom + more_h, right + more_w), (dh, dw), divisor)
    if task.output_shape != call.out_shape:
        return None
    whole = (oh, ow, dh, dw) == (1, 1, 1, 1) and r - top >= h and s - left >= w
    if whole and (mode == "max" or divisor == "valid"):
        task = PoolTask(mode, n, c, h, w, h, w, (1, 1))  # what hangs over the map does not count
    return call.emit(task, [call.args[0]])


@converts("relax.mean")
def _mean(call: Call) -> Any:
    shape = call.shape(0)
    axes = sorted(int(a) % len(shape) for a in (call.attrs.axis or ()))
    if not (call.value() and call.is_float32) or len(shape) != 4 or axes != [2, 3]:
        return None
    n, c, h, w = shape
    pooled = call.emit(PoolTask("avg", n, c, h, w, h, w, (1, 1)), [call.args[0]])
    if call.attrs.keepdims:
        return pooled
    return call.emit(ViewTask((n, c, 1, 1), (n, c)), [pooled])


@converts("relax.concat")
def _concat(call: Call) -> Any:
    parts = call.args[0]
    if not isinstance(parts, tuple) or not all(isinstance(p, str) for p in parts):
        return None
    shapes = [call.state.shapes[p] for p in parts]
    axis = int(call.attrs.axis) % len(shapes[0])
    if len(shapes[0]) != 4 or axis != 1 or {call.state.dtypes[p] for p in parts} != {"float32"}:
        return None
    if len(parts) == 1:
        return parts[0]
    n, _, h, w = shapes[0]
    return call.emit(ConcatTask(n, tuple(s[1] for s in shapes), h, w), list(parts))


@converts("relax.nn.softmax")
def _softmax(call: Call) -> Any:
    if not (call.value() and call.is_float32):
        return None
    shape = call.shape(0)
    return call.emit(SoftmaxTask(shape, int(call.attrs.axis) % len(shape)), [call.args[0]])


@converts("relax.matmul")
def _matmul(call: Call) -> Any:
    weight = call.args[1]
    if not (call.value() and isinstance(weight, np.ndarray) and weight.ndim == 2 and call.is_float32):
        return None
    shape = call.shape(0)
    if len(shape) < 2:
        return None
    k = weight.shape[1]
    source = call.args[0]
    rows = int(np.prod(shape[:-1]))
    if len(shape) > 2:
        source = call.emit(ViewTask(shape, (rows, shape[-1])), [source])
    value = call.emit(DenseTask((rows, shape[-1]), k), [source], [np.ascontiguousarray(weight.T)])
    if len(shape) > 2:
        value = call.emit(ViewTask((rows, k), call.out_shape), [value])
    return value


@converts("relax.reshape", "relax.squeeze", "relax.expand_dims", "relax.flatten")
def _view(call: Call) -> Any:
    source = call.value()
    if source is None or call.state.dtypes[source] != "float32":
        return None
    if call.shape(0) == call.out_shape:
        return source
    shuffled = recognise_shuffle(call)
    if shuffled is not None:
        return call.emit(*shuffled)
    return call.emit(ViewTask(call.shape(0), call.out_shape), [source])


@converts("relax.broadcast_to")
def _broadcast_to(call: Call) -> Any:
    return call.value() if call.shape(0) == call.out_shape else None


@converts("relax.nn.dropout")
def _dropout(call: Call) -> Any:
    return (call.args[0], call.args[0])


@converts("relax.nn.batch_norm")
def _batch_norm(call: Call) -> Any:
    constants = call.args[1:5]
    value = call.value()
    if value is None or not all(isinstance(c, np.ndarray) for c in constants) or int(call.attrs.axis) != 1:
        return None
    if call.state.dtypes[value] != "float32":
        return None
    gamma, beta, mean, variance = (c.astype(np.float64) for c in constants)
    scale = (gamma if call.attrs.scale else 1.0) / np.sqrt(variance + float(call.attrs.epsilon))
    bias = (beta if call.attrs.center else 0.0) - mean * scale
    task = EltwiseTask(call.shape(0), (Step("scale"), Step("bias")))
    return (call.emit(task, [call.args[0]], [scale, bias]), None, None)


@converts("relax.shape_of")
def _shape_of(call: Call) -> Any:
    """Shapes are static: computations on them fold away."""
    return relax.ShapeExpr(list(call.shape(0)))


@converts("relax.shape_to_tensor")
def _shape_to_tensor(call: Call) -> Any:
    return np.array([int(size) for size in call.args[0].values], np.int64)
