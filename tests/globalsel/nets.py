"""Small ONNX networks for tests, with seeded random weights, and the light nets that ship with ``onnx``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
LIGHT_NETS = sorted(p.stem.removeprefix("light_") for p in LIGHT.glob("light_*.onnx"))


def light(name: str) -> Path:
    """Path of one of the nine real networks shipped inside the onnx package."""
    return LIGHT / f"light_{name}.onnx"


class NetBuilder:
    """Builds a network node by node; every method returns the name of its output."""

    def __init__(self, shape: tuple[int, ...] = (1, 3, 20, 20), seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shape = shape
        self.x = "x"

    def constant(self, array: np.ndarray, name: str) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, c: int, k: int, r: int, stride: int = 1, pad: int = 0, groups: int = 1) -> str:
        n = len(self.nodes)
        scale = np.sqrt(2 / (c // groups * r * r))
        w = self.constant((self.rng.standard_normal((k, c // groups, r, r)) * scale).astype("float32"), f"w{n}")
        b = self.constant((self.rng.standard_normal(k) * 0.1).astype("float32"), f"b{n}")
        return self.node("Conv", [x, w, b], kernel_shape=[r, r], strides=[stride] * 2, pads=[pad] * 4, group=groups)

    def batch_norm(self, x: str, c: int) -> str:
        n = len(self.nodes)
        values = [1 + 0.1 * self.rng.standard_normal(c), 0.1 * self.rng.standard_normal(c),
                  0.1 * self.rng.standard_normal(c), 1 + np.abs(0.1 * self.rng.standard_normal(c))]  # fmt: skip
        names = [self.constant(v.astype("float32"), f"bn{n}_{i}") for i, v in enumerate(values)]
        return self.node("BatchNormalization", [x, *names])

    def model(self, *outputs: str, dynamic: bool = False) -> onnx.ModelProto:
        shape: list[object] = list(self.shape)
        if dynamic:
            shape[0] = "batch"
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs], self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        return model


def tiny() -> onnx.ModelProto:
    """Three convolutions and a residual sum: the smallest network that has everything but pooling."""
    net = NetBuilder()
    a = net.node("Relu", [net.conv("x", 3, 16, 3, 2, 1)])
    b = net.conv(a, 16, 16, 3, 1, 1)
    c = net.node("Relu", [net.node("Add", [b, a])])
    return net.model(net.conv(c, 16, 24, 1))


def inverted_residuals() -> onnx.ModelProto:
    """Four blocks of expansion, depthwise and projection; the middle of the last two has other readers as well."""
    net = NetBuilder((1, 16, 12, 12), seed=2)

    def middle(x: str, c: int, k: int, stride: int) -> tuple[str, str]:
        wide = net.node("Relu", [net.conv(x, c, k, 1)])
        return wide, net.node("Relu", [net.conv(wide, k, k, 3, stride, 1, groups=k)])

    a = net.node("Add", [net.conv(middle("x", 16, 48, 1)[1], 48, 16, 1), "x"])
    b = net.conv(middle(a, 16, 32, 2)[1], 32, 24, 1)
    wide, deep = middle(b, 24, 48, 1)
    c = net.conv(net.node("Add", [wide, deep]), 48, 24, 1)
    seen, deep = middle(c, 24, 32, 1)
    return net.model(net.conv(deep, 32, 16, 1), seen)


def pooled_and_shuffled() -> onnx.ModelProto:
    """A first layer and its pool, then a unit of a ShuffleNet: 1x1 in groups, shuffle, depthwise, 1x1 in groups."""
    net = NetBuilder((1, 3, 40, 40), seed=3)
    x = net.node("Relu", [net.conv("x", 3, 32, 7, 2, 3)])
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.conv(x, 32, 48, 1, groups=2)
    x = net.node("Reshape", [x, net.constant(np.array([1, 3, 16, 10, 10]), "spread")])
    x = net.node("Transpose", [x], perm=[0, 2, 1, 3, 4])
    x = net.node("Reshape", [x, net.constant(np.array([1, 48, 10, 10]), "back")])
    x = net.node("Relu", [net.conv(x, 48, 48, 3, 2, 1, groups=48)])
    return net.model(net.conv(x, 48, 48, 1, groups=2))


def everything() -> onnx.ModelProto:
    """Every kind of operator that the extraction knows, and some that it does not."""
    net = NetBuilder((1, 3, 24, 24), seed=1)
    x = net.node("Relu", [net.batch_norm(net.conv("x", 3, 24, 3, 2, 1), 24)])
    x = net.node("LRN", [x], size=5, alpha=1e-3, beta=0.75, bias=1.0)
    left = net.node("Relu", [net.conv(x, 24, 20, 1)])
    right = net.node("Sigmoid", [net.conv(x, 24, 12, 3, 1, 1)])
    pool = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    x = net.node("Concat", [left, right, pool], axis=1)  # 56 channels
    x = net.node("Relu", [net.batch_norm(x, 56)])
    x = net.node("Relu", [net.conv(x, 56, 64, 1)])  # one kernel may do this and the next
    depthwise = net.conv(x, 64, 64, 3, 2, 1, groups=64)
    x = net.node("Clip", [depthwise, net.constant(np.float32(0), "zero"), net.constant(np.float32(6), "six")])
    x = net.conv(x, 64, 32, 1, groups=4)
    shape = net.constant(np.array([1, 4, 8, 6, 6]), "spread")
    x = net.node("Transpose", [net.node("Reshape", [x, shape])], perm=[0, 2, 1, 3, 4])
    x = net.node("Reshape", [x, net.constant(np.array([1, 32, 6, 6]), "back")])
    average = net.node("AveragePool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    x = net.node("Sum", [x, average, x])
    gate = net.node("Sigmoid", [net.conv(net.node("GlobalAveragePool", [x]), 32, 32, 1)])
    x = net.node("Mul", [x, gate])  # broadcast over the map: no task of ours
    x = net.node("Transpose", [x], perm=[0, 1, 3, 2])
    flat = net.node("Flatten", [x])
    w = net.constant((net.rng.standard_normal((10, 32 * 36)) / 30).astype("float32"), "fc_w")
    b = net.constant(net.rng.standard_normal(10).astype("float32"), "fc_b")
    logits = net.node("Gemm", [flat, w, b], transB=1)
    return net.model(net.node("Softmax", [logits], axis=1), flat)
