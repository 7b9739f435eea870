"""A network written down layer by layer as an ONNX model. Weights are zero until they are seeded."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET, _IR_VERSION = 13, 8


class Builder:
    """Every method adds a layer behind the value ``x`` and returns the name of its output.

    The builder keeps each value's channel count and map size, so that layers state only what they decide themselves.
    """

    def __init__(self, name: str, batch: int, channels: int = 3, size: int = 224) -> None:
        self.input = "data"
        self._name = name
        self._input_shape = (batch, channels, size, size)
        self._shapes: dict[str, tuple[int, int]] = {self.input: (channels, size)}
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def channels(self, x: str) -> int:
        """Channels of a value."""
        return self._shapes[x][0]

    def conv(self, x: str, out: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False) -> str:
        """Convolution that keeps the map's size (divided by the stride): padding ``kernel // 2``."""
        channels, size = self._shapes[x]
        name = f"conv{len(self._nodes)}"
        parameters = [self._weight(f"{name}.weight", out, channels // groups, kernel, kernel)]
        if bias:
            parameters.append(self._weight(f"{name}.bias", out))
        pad = kernel // 2
        return self._add(
            "Conv", name, [x, *parameters], (out, (size + 2 * pad - kernel) // stride + 1),
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups,
        )  # fmt: skip

    def batch_norm(self, x: str) -> str:
        """Batch normalisation over the channels."""
        name = f"bn{len(self._nodes)}"
        parameters = [self._weight(f"{name}.{role}", self.channels(x)) for role in ("scale", "bias", "mean", "var")]
        return self._add("BatchNormalization", name, [x, *parameters], self._shapes[x])

    def relu(self, x: str) -> str:
        """Rectifier."""
        return self._add("Relu", f"relu{len(self._nodes)}", [x], self._shapes[x])

    def relu6(self, x: str) -> str:
        """Rectifier that saturates at 6."""
        bounds = []
        for bound in (0, 6):
            bounds.append(f"relu6_{bound}_{len(self._nodes)}")
            constant = numpy_helper.from_array(np.float32(bound))
            self._nodes.append(helper.make_node("Constant", [], [bounds[-1]], name=bounds[-1], value=constant))
        return self._add("Clip", f"relu6_{len(self._nodes)}", [x, *bounds], self._shapes[x])

    def add(self, a: str, b: str) -> str:
        """Residual sum."""
        return self._add("Add", f"add{len(self._nodes)}", [a, b], self._shapes[a])

    def max_pool(self, x: str, kernel: int, stride: int, pad: int = 0) -> str:
        """Maximum over windows."""
        channels, size = self._shapes[x]
        return self._add(
            "MaxPool", f"pool{len(self._nodes)}", [x], (channels, (size + 2 * pad - kernel) // stride + 1),
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
        )  # fmt: skip

    def global_average(self, x: str) -> str:
        """Mean of every map."""
        return self._add("GlobalAveragePool", f"mean{len(self._nodes)}", [x], (self.channels(x), 1))

    def flatten(self, x: str) -> str:
        """One row of features for each image."""
        channels, size = self._shapes[x]
        return self._add("Flatten", f"flatten{len(self._nodes)}", [x], (channels * size * size, 1), axis=1)

    def dense(self, x: str, out: int) -> str:
        """Fully connected layer with a bias."""
        name = f"fc{len(self._nodes)}"
        parameters = [self._weight(f"{name}.weight", out, self.channels(x)), self._weight(f"{name}.bias", out)]
        return self._add("Gemm", name, [x, *parameters], (out, 1), transB=1)

    def model(self, x: str) -> onnx.ModelProto:
        """The finished model: class probabilities from the logits ``x``."""
        self._nodes.append(helper.make_node("Softmax", [x], ["prob"], name="softmax", axis=1))
        graph = helper.make_graph(
            self._nodes, self._name,
            [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, self._input_shape)],
            [helper.make_tensor_value_info("prob", TensorProto.FLOAT, (self._input_shape[0], self.channels(x)))],
            self._weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)

    def _weight(self, name: str, *shape: int) -> str:
        self._weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def _add(self, op: str, name: str, inputs: list[str], shape: tuple[int, int], **attributes: object) -> str:
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self._shapes[name] = shape
        return name
