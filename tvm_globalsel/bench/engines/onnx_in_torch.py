"""An ONNX graph as a torch module: the operators that convolutional networks use, one function each.

No engine by itself; ``torch.py`` and ``tflite.py`` load it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

Attributes = dict[str, Any]


class Graph(torch.nn.Module):
    """Calls the nodes in order; weights are parameters. Raises ValueError for an operator that has no function."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        model = onnx.load(str(path))
        graph = model.graph
        self._opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._constants: dict[str, np.ndarray] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self._inputs = [v.name for v in graph.input if v.name not in self._constants]
        self._outputs = [v.name for v in graph.output]
        self._nodes: list[tuple[Callable[..., Any], Attributes, list[str], str]] = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
                continue
            if node.op_type not in OPERATORS:
                raise ValueError(f"operator {node.op_type} has no counterpart in torch here")
            attributes["opset"] = self._opset
            self._nodes.append((OPERATORS[node.op_type], attributes, list(node.input), node.output[0]))
        for i, (name, array) in enumerate(self._constants.items()):
            if array.dtype == np.float32 and array.size > 1:
                parameter = torch.nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)
                self.register_parameter(f"p{i}", parameter)
                self._constants[name] = np.array(i)  # where it is found again
        self._parameter_of = {
            name: f"p{i}" for i, name in enumerate(self._constants) if hasattr(self, f"p{i}")
        }  # fmt: skip
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the graph's order. Small constants reach the operators as numpy arrays."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        values |= {n: v for n, v in self._constants.items() if n not in self._parameter_of}
        values |= {n: getattr(self, p) for n, p in self._parameter_of.items()}
        values[""] = None
        for function, attributes, names, output in self._nodes:
            values[output] = function(attributes, *(values[name] for name in names))
        return tuple(values[name] for name in self._outputs)


def _integers(value: Any) -> list[int]:
    return [int(v) for v in np.asarray(value).reshape(-1)]


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    return lambda attributes, a, b: function(_tensor(a), _tensor(b))


def _unary(function: Callable[[Any], Any]) -> Callable[..., Tensor]:
    return lambda attributes, x: function(x)


def _padded(x: Tensor, attributes: Attributes, window: tuple[int, int], value: float) -> tuple[Tensor, Any]:
    """``x`` padded where torch cannot pad by itself, and the symmetric padding that is left for torch to do."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    kind = attributes.get("auto_pad", b"NOTSET").decode()
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        for axis in (0, 1):
            size = x.shape[2 + axis]
            reach = (-(-size // strides[axis]) - 1) * strides[axis] + dilations[axis] * (window[axis] - 1) + 1
            need = max(0, reach - size)
            pads[axis], pads[axis + 2] = need // 2, need - need // 2
            if kind == "SAME_LOWER":
                pads[axis], pads[axis + 2] = pads[axis + 2], pads[axis]
    if pads[:2] == pads[2:]:
        return x, pads[:2]
    return functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value), [0, 0]


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, padding = _padded(x, attributes, (weight.shape[2], weight.shape[3]), 0.0)
    return functional.conv2d(
        x, weight, bias, tuple(attributes.get("strides", [1, 1])), tuple(padding),
        tuple(attributes.get("dilations", [1, 1])), attributes.get("group", 1),
    )  # fmt: skip


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    window, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    x, padding = _padded(x, attributes, tuple(window), float("-inf"))
    if any(2 * p > w for p, w in zip(padding, window, strict=True)):
        x, padding = functional.pad(x, (padding[1],) * 2 + (padding[0],) * 2, value=float("-inf")), [0, 0]
    return functional.max_pool2d(
        x, window, strides, padding, attributes.get("dilations", [1, 1]), bool(attributes.get("ceil_mode", 0))
    )


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    window, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    inclusive, ceil = bool(attributes.get("count_include_pad", 0)), bool(attributes.get("ceil_mode", 0))
    padded, padding = _padded(x, attributes, tuple(window), 0.0)
    if padded is x:
        return functional.avg_pool2d(x, window, strides, padding, ceil, inclusive)
    mean = functional.avg_pool2d(padded, window, strides, 0, ceil)
    if inclusive:
        return mean
    ones, _ = _padded(torch.ones_like(x[:1, :1]), attributes, tuple(window), 0.0)
    return mean / functional.avg_pool2d(ones, window, strides, 0, ceil)


def _batch_norm(attributes: Attributes, x: Tensor, *parameters: Tensor) -> Tensor:
    scale, bias, mean, variance = parameters
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def _lrn(attributes: Attributes, x: Tensor) -> Tensor:
    alpha, beta, bias = attributes.get("alpha", 1e-4), attributes.get("beta", 0.75), attributes.get("bias", 1.0)
    return functional.local_response_norm(x, attributes["size"], alpha, beta, bias)


def _softmax(attributes: Attributes, x: Tensor) -> Tensor:
    if attributes["opset"] >= 13:
        return torch.softmax(x, attributes.get("axis", -1))
    axis = attributes.get("axis", 1) % x.ndim  # before opset 13, all axes from this one on are one
    return torch.softmax(x.flatten(axis), axis).reshape(x.shape)


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Any = None) -> Tensor:
    a = a.T if attributes.get("transA", 0) else a
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if attributes.get("transB", 0) and alpha == 1.0 and beta == 1.0 and (c is None or c.ndim == 1):
        return functional.linear(a, b, c)
    product = alpha * (a @ (b.T if attributes.get("transB", 0) else b))
    return product if c is None else product + beta * _tensor(c)


def _reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    sizes = _integers(shape)
    wanted = [x.shape[i] if s == 0 and not attributes.get("allowzero", 0) else s for i, s in enumerate(sizes)]
    return x.reshape(wanted)


def _flatten(attributes: Attributes, x: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    return x.flatten(axis) if axis == 1 else x.reshape(int(np.prod(x.shape[:axis])), -1)


def _clip(attributes: Attributes, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low = attributes.get("min") if low is None else float(low)
    high = attributes.get("max") if high is None else float(high)
    return torch.clamp(x, low, high)


def _axes(attributes: Attributes, given: Any) -> list[int]:
    return _integers(given if given is not None else attributes["axes"])


def _squeeze(attributes: Attributes, x: Tensor, axes: Any = None) -> Tensor:
    return torch.squeeze(x, tuple(_axes(attributes, axes)))


def _unsqueeze(attributes: Attributes, x: Any, axes: Any = None) -> Tensor:
    x = _tensor(x)
    for axis in sorted(_axes(attributes, axes)):
        x = torch.unsqueeze(x, axis)
    return x


def _mean(attributes: Attributes, x: Tensor, axes: Any = None) -> Tensor:
    return x.mean(_axes(attributes, axes), keepdim=bool(attributes.get("keepdims", 1)))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _binary(torch.matmul), "BatchNormalization": _batch_norm, "LRN": _lrn,
    "MaxPool": _max_pool, "AveragePool": _average_pool,
    "GlobalAveragePool": _unary(lambda x: x.mean((2, 3), keepdim=True)),
    "GlobalMaxPool": _unary(lambda x: x.amax((2, 3), keepdim=True)), "ReduceMean": _mean,
    "Relu": _unary(functional.relu), "Sigmoid": _unary(torch.sigmoid), "Tanh": _unary(torch.tanh), "Clip": _clip,
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "HardSwish": _unary(functional.hardswish),
    "HardSigmoid": lambda a, x: torch.clamp(x * a.get("alpha", 0.2) + a.get("beta", 0.5), 0, 1), "Softmax": _softmax,
    "Add": _binary(torch.add), "Sub": _binary(torch.sub), "Mul": _binary(torch.mul), "Div": _binary(torch.div),
    "Sum": lambda a, *xs: sum(_tensor(x) for x in xs),
    "Concat": lambda a, *xs: torch.cat([_tensor(x) for x in xs], a["axis"]),
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": lambda a, x: x.permute(a["perm"]), "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Identity": _unary(lambda x: x), "Dropout": lambda a, x, *rest: x,
}  # fmt: skip
