"""What the converters of Caffe layers read and write: layers in single assignment, and an ONNX graph in the making."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tvm_globalsel.errors import UserError

OPSET, IR_VERSION = 13, 8
#: Caffe counts a blob's elements in an int.
MOST_ELEMENTS = (1 << 31) - 1
#: Protobuf, and so ONNX without external data, ends at 2 GiB.
MOST_WEIGHT_BYTES = (1 << 31) - (1 << 20)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer whose ``bottoms`` and ``tops`` are values that are written once, in-place layers included.

    ``message`` is the LayerParameter or V1LayerParameter; ``weights`` are the arrays of a .caffemodel in the layer's
    order, or None when there is no .caffemodel; ``label`` says where the layer stands, for messages.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Any
    weights: tuple[np.ndarray, ...] | None
    label: str

    def refuse(self, why: str, remedy: str = "change the network") -> UserError:
        """The error to raise."""
        return UserError(f"{self.label}: {why}", remedy)


class GraphWriter:
    """Nodes, constants and the shape of every value so far."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: dict[str, Shape] = {}
        self._weight_bytes = 0

    def add_input(self, name: str, shape: Shape, label: str) -> None:
        """An input of the network."""
        if not shape:
            raise UserError(f"{label} has no shape", f"give it one with --shape {name}=1,3,224,224")
        if any(size < 1 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise UserError(f"{label} has the shape {list(shape)}", f"give it another one with --shape {name}=...")
        self.shapes[name] = shape

    def emit(self, layer: Layer, op: str, inputs: list[str], shape: Shape, output: str = "", **attributes: Any) -> str:
        """Add a node that computes ``output`` (default: the layer's top) of this shape; returns the output's name."""
        output = output or layer.tops[0]
        if any(size < 1 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise layer.refuse(f"its output would have the shape {list(shape)}", "check sizes, padding and strides")
        name = layer.name if output == layer.tops[0] else output
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        self.shapes[output] = shape
        return output

    def weight(self, layer: Layer, index: int, role: str, shape: Shape) -> str:
        """The layer's weight number ``index``: from the .caffemodel, or a zero that takes no room, to be seeded."""
        name = f"{layer.name}:{role}"
        self._weight_bytes += 4 * math.prod(shape)
        if any(size < 1 for size in shape) or self._weight_bytes > MOST_WEIGHT_BYTES:
            raise layer.refuse(f"with its {role} of shape {list(shape)} the network has 2 GiB of weights or more")
        if layer.weights is not None:
            self.initializers.append(numpy_helper.from_array(_fitting(layer, index, role, shape), name))
            return name
        zero = numpy_helper.from_array(np.zeros(1, np.float32), "value")
        size = self._initializer(f"{name}:shape", np.array(shape, np.int64))
        self.nodes.append(helper.make_node("ConstantOfShape", [size], [name], name=name, value=zero))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """A constant of the network itself, which seeding must not touch: a node, where weights are initializers."""
        self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(array)))
        return name

    def integers(self, name: str, values: Shape) -> str:
        """A shape as the operand of ``Reshape``."""
        return self._initializer(name, np.array(values, np.int64))

    def _initializer(self, name: str, array: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def model(self, name: str, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
        """The whole as an ONNX model."""
        values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in (*inputs, *outputs)}
        graph = helper.make_graph(
            self.nodes, name, [values[n] for n in inputs], [values[n] for n in outputs], self.initializers
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _fitting(layer: Layer, index: int, role: str, shape: Shape) -> np.ndarray:
    assert layer.weights is not None
    if index >= len(layer.weights):
        raise layer.refuse(f"the weights file has no {role} for it", "is it the .caffemodel of this network?")
    array = layer.weights[index]
    if array.size != math.prod(shape):
        raise layer.refuse(
            f"its {role} has {array.size} elements in the weights file, where the network needs {list(shape)}",
            "is it the .caffemodel of this network?",
        )
    return array.reshape(shape)
