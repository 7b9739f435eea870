"""One converter for each type of Caffe layer, to the ONNX operator (opset 13) that computes the same.

A converter gets a :class:`Layer` and the :class:`GraphWriter`, and raises :class:`UserError` for what it cannot do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_globalsel.frontends.caffe_graph import GraphWriter, Layer, Shape
from tvm_globalsel.frontends.caffe_pooling import pooling

Converter = Callable[[Layer, GraphWriter], None]
_ELTWISE = {0: "Mul", 1: "Sum", 2: "Max"}


def _axis(layer: Layer, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise layer.refuse(f"axis {axis} of a blob with {rank} axes")
    return axis % rank


def _spatial(layer: Layer, param: Any, name: str, default: int | None) -> tuple[int, int]:
    """``kernel_size``, ``pad``, ``stride`` or ``dilation`` of a convolution: given once, by axis, or as _h and _w."""
    short = name.removesuffix("_size")
    tall, wide = f"{short}_h", f"{short}_w"
    if hasattr(param, tall) and (param.HasField(tall) or param.HasField(wide)):
        return int(getattr(param, tall)), int(getattr(param, wide))
    values = [int(v) for v in getattr(param, name)] or ([] if default is None else [default])
    if len(values) not in (1, 2):
        raise layer.refuse(f"{len(values)} values of {name}, where one or two are needed")
    return values[0], values[-1]


def _convolution(layer: Layer, graph: GraphWriter) -> None:
    param = layer.message.convolution_param
    shape = graph.shapes[layer.bottoms[0]]
    if len(shape) != 4 or _axis(layer, param.axis, 4) != 1:
        raise layer.refuse(f"a convolution of a blob of shape {list(shape)} along axis {param.axis}")
    kernel, stride = _spatial(layer, param, "kernel_size", None), _spatial(layer, param, "stride", 1)
    pad, dilation = _spatial(layer, param, "pad", 0), _spatial(layer, param, "dilation", 1)
    n, c, *sizes = shape
    k, groups = int(param.num_output), int(param.group)
    if not (k and groups and all((*kernel, *stride, *dilation))) or c % groups or k % groups:
        raise layer.refuse(f"{c} channels to {k} in {groups} groups, kernel {kernel}, stride {stride}")
    out = [(h + 2 * p - d * (r - 1) - 1) // s + 1
           for h, p, d, r, s in zip(sizes, pad, dilation, kernel, stride, strict=True)]  # fmt: skip
    inputs = [layer.bottoms[0], graph.weight(layer, 0, "weight", (k, c // groups, *kernel))]
    if param.bias_term:
        inputs.append(graph.weight(layer, 1, "bias", (k,)))
    graph.emit(
        layer, "Conv", inputs, (n, k, *out), kernel_shape=kernel, strides=stride, pads=[*pad, *pad],
        dilations=dilation, group=groups,
    )  # fmt: skip


def _inner_product(layer: Layer, graph: GraphWriter) -> None:
    param = layer.message.inner_product_param
    source, shape = layer.bottoms[0], graph.shapes[layer.bottoms[0]]
    axis = _axis(layer, param.axis, len(shape))
    rows, columns, k = math.prod(shape[:axis]), math.prod(shape[axis:]), int(param.num_output)
    if len(shape) != 2 or axis != 1:
        source = graph.emit(layer, "Flatten", [source], (rows, columns), f"{layer.name}:rows", axis=axis)
    weight = graph.weight(layer, 0, "weight", (columns, k) if param.transpose else (k, columns))
    inputs = [source, weight, *([graph.weight(layer, 1, "bias", (k,))] if param.bias_term else [])]
    if axis == 1:
        graph.emit(layer, "Gemm", inputs, (rows, k), transB=int(not param.transpose))
        return
    product = graph.emit(layer, "Gemm", inputs, (rows, k), f"{layer.name}:product", transB=int(not param.transpose))
    _reshaped(layer, graph, product, (*shape[:axis], k))


def _reshaped(layer: Layer, graph: GraphWriter, source: str, shape: Shape) -> None:
    graph.emit(layer, "Reshape", [source, graph.integers(f"{layer.name}:shape", shape)], shape)


def _relu(layer: Layer, graph: GraphWriter) -> None:
    slope = float(layer.message.relu_param.negative_slope)
    if slope:
        _same_shape(layer, graph, "LeakyRelu", alpha=slope)
    else:
        _same_shape(layer, graph, "Relu")


def _same_shape(layer: Layer, graph: GraphWriter, op: str, **attributes: Any) -> None:
    graph.emit(layer, op, [layer.bottoms[0]], graph.shapes[layer.bottoms[0]], **attributes)


def _copies(layer: Layer, graph: GraphWriter) -> None:
    """Split, and Dropout, which does nothing in inference (Caffe scales in training)."""
    for top in layer.tops:
        graph.emit(layer, "Identity", [layer.bottoms[0]], graph.shapes[layer.bottoms[0]], top)


def _lrn(layer: Layer, graph: GraphWriter) -> None:
    param = layer.message.lrn_param
    size, alpha, beta = int(param.local_size), float(param.alpha), float(param.beta)
    if size % 2 == 0:
        raise layer.refuse(f"local_size {size} is not odd")
    if param.norm_region == 0:
        _same_shape(layer, graph, "LRN", size=size, alpha=alpha, beta=beta, bias=float(param.k))
        return
    # within a channel: x / (1 + alpha * mean of x^2 over a square) ** beta, where padding counts as zeros
    source, shape, name = layer.bottoms[0], graph.shapes[layer.bottoms[0]], layer.name
    scalars = {role: graph.constant(f"{name}:{role}", np.float32(value))  # type: ignore[arg-type]
               for role, value in (("alpha", alpha), ("one", 1.0), ("power", -beta))}  # fmt: skip
    square = graph.emit(layer, "Mul", [source, source], shape, f"{name}:square")
    mean = graph.emit(layer, "AveragePool", [square], shape, f"{name}:mean", kernel_shape=[size, size],
                      pads=[size // 2] * 4, count_include_pad=1)  # fmt: skip
    scaled = graph.emit(layer, "Mul", [mean, scalars["alpha"]], shape, f"{name}:scaled")
    shifted = graph.emit(layer, "Add", [scaled, scalars["one"]], shape, f"{name}:shifted")
    factor = graph.emit(layer, "Pow", [shifted, scalars["power"]], shape, f"{name}:factor")
    graph.emit(layer, "Mul", [source, factor], shape)


def _concat(layer: Layer, graph: GraphWriter) -> None:
    param = layer.message.concat_param
    shapes = [graph.shapes[b] for b in layer.bottoms]
    axis = _axis(layer, int(param.concat_dim) if param.HasField("concat_dim") else param.axis, len(shapes[0]))
    if len({(len(s), s[:axis], s[axis + 1 :]) for s in shapes}) > 1:
        raise layer.refuse(f"blobs of shapes {[list(s) for s in shapes]} along axis {axis}")
    total = sum(s[axis] for s in shapes)
    graph.emit(layer, "Concat", list(layer.bottoms), (*shapes[0][:axis], total, *shapes[0][axis + 1 :]), axis=axis)


def _eltwise(layer: Layer, graph: GraphWriter) -> None:
    param, inputs = layer.message.eltwise_param, list(layer.bottoms)
    shape = graph.shapes[inputs[0]]
    if any(graph.shapes[b] != shape for b in inputs) or len(inputs) < 2:
        raise layer.refuse(f"blobs of shapes {[list(graph.shapes[b]) for b in inputs]}")
    if param.coeff and (param.operation != 1 or len(param.coeff) != len(inputs)):
        raise layer.refuse(f"{len(param.coeff)} coefficients for {len(inputs)} blobs")
    for i, coefficient in enumerate(param.coeff):
        if coefficient != 1:
            factor = graph.constant(f"{layer.name}:coeff{i}", np.float32(coefficient))  # type: ignore[arg-type]
            inputs[i] = graph.emit(layer, "Mul", [inputs[i], factor], shape, f"{layer.name}:term{i}")
    if param.operation != 0:
        graph.emit(layer, _ELTWISE[param.operation], inputs, shape)
        return
    product = inputs[0]
    for i, factor in enumerate(inputs[1:], start=1):
        last = i == len(inputs) - 1
        product = graph.emit(layer, "Mul", [product, factor], shape, "" if last else f"{layer.name}:product{i}")


def _softmax(layer: Layer, graph: GraphWriter) -> None:
    shape = graph.shapes[layer.bottoms[0]]
    _same_shape(layer, graph, "Softmax", axis=_axis(layer, layer.message.softmax_param.axis, len(shape)))


def _batch_norm(layer: Layer, graph: GraphWriter) -> None:
    """Normalisation with stored statistics; the affine map is Caffe's separate Scale layer."""
    param, shape = layer.message.batch_norm_param, graph.shapes[layer.bottoms[0]]
    if len(shape) < 2:
        raise layer.refuse(f"a blob of shape {list(shape)} has no channels")
    if param.HasField("use_global_stats") and not param.use_global_stats:
        raise layer.refuse("use_global_stats: false normalises with the statistics of the batch", "deploy with true")
    c = shape[1]
    inputs = [
        layer.bottoms[0], graph.constant(f"{layer.name}:ones", np.ones(c, np.float32)),
        graph.constant(f"{layer.name}:zeros", np.zeros(c, np.float32)),
        graph.weight(layer, 0, "mean", (c,)), graph.weight(layer, 1, "variance", (c,)),
    ]  # fmt: skip
    graph.emit(layer, "BatchNormalization", inputs, shape, epsilon=float(param.eps))


def _scale(layer: Layer, graph: GraphWriter) -> None:
    param, shape = layer.message.scale_param, graph.shapes[layer.bottoms[0]]
    if len(layer.bottoms) != 1:
        raise layer.refuse("a Scale layer with two bottoms is not supported", "use Eltwise with PROD")
    axis = _axis(layer, param.axis, len(shape))
    end = len(shape) if param.num_axes == -1 else axis + param.num_axes
    if not axis <= end <= len(shape):
        raise layer.refuse(f"num_axes {param.num_axes} from axis {axis} of a blob of shape {list(shape)}")
    own = (*shape[axis:end], *(1 for _ in shape[end:]))
    scale = graph.weight(layer, 0, "scale", own)
    if not param.bias_term:
        graph.emit(layer, "Mul", [layer.bottoms[0], scale], shape)
        return
    scaled = graph.emit(layer, "Mul", [layer.bottoms[0], scale], shape, f"{layer.name}:scaled")
    graph.emit(layer, "Add", [scaled, graph.weight(layer, 1, "bias", own)], shape)


def _flatten(layer: Layer, graph: GraphWriter) -> None:
    param, shape = layer.message.flatten_param, graph.shapes[layer.bottoms[0]]
    first, last = _axis(layer, param.axis, len(shape)), _axis(layer, param.end_axis, len(shape))
    if first > last:
        raise layer.refuse(f"from axis {first} to axis {last}")
    _reshaped(layer, graph, layer.bottoms[0], (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def _reshape(layer: Layer, graph: GraphWriter) -> None:
    """0 copies a size, -1 is what is left; ``axis`` and ``num_axes`` say which axes are replaced."""
    param, shape = layer.message.reshape_param, graph.shapes[layer.bottoms[0]]
    rank = len(shape)
    if not -rank - 1 <= param.axis <= rank:
        raise layer.refuse(f"axis {param.axis} of a blob with {rank} axes")
    first = param.axis if param.axis >= 0 else rank + 1 + param.axis
    end = rank if param.num_axes == -1 else first + param.num_axes
    if not first <= end <= rank:
        raise layer.refuse(f"num_axes {param.num_axes} from axis {first} of a blob of shape {list(shape)}")
    wanted = [int(size) for size in param.shape.dim]
    for i, size in enumerate(wanted):
        if size == 0 and first + i >= rank:
            raise layer.refuse(f"dim {i} copies an axis that the blob does not have")
        wanted[i] = shape[first + i] if size == 0 else size
    replaced = math.prod(shape[first:end])
    known = math.prod(size for size in wanted if size != -1)
    if wanted.count(-1) == 1 and known > 0:
        wanted[wanted.index(-1)] = replaced // known
    if min(wanted, default=1) < 1 or math.prod(wanted) != replaced:
        raise layer.refuse(f"{list(shape)} does not fit into the shape {list(param.shape.dim)}")
    _reshaped(layer, graph, layer.bottoms[0], (*shape[:first], *wanted, *shape[end:]))


CONVERTERS: dict[str, Converter] = {
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "Dropout": _copies,
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "Pooling": pooling,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": lambda layer, graph: _same_shape(layer, graph, "Sigmoid"),
    "Softmax": _softmax,
    "Split": _copies,
    "TanH": lambda layer, graph: _same_shape(layer, graph, "Tanh"),
}

#: The names that the layers of the older format (``layers { type: CONVOLUTION }``) have in the newer one.
V1_TYPES = {
    "CONCAT": "Concat", "CONVOLUTION": "Convolution", "DROPOUT": "Dropout", "ELTWISE": "Eltwise", "FLATTEN": "Flatten",
    "INNER_PRODUCT": "InnerProduct", "LRN": "LRN", "POOLING": "Pooling", "RELU": "ReLU", "SIGMOID": "Sigmoid",
    "SOFTMAX": "Softmax", "SPLIT": "Split", "TANH": "TanH",
}  # fmt: skip
