"""Seeded random weights for models that ship with constant ones: correctness checks on constants prove nothing."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

_STD_OF_LOGITS = 2.0


def seed_weights(model: onnx.ModelProto, seed: int) -> None:
    """Replace every floating point weight, in place.

    He-normal for convolutions and dense layers, statistics near identity for batch normalisation, small biases.
    The layer before a final softmax is then rescaled so that its logits have a standard deviation of about 2:
    without normalised statistics, deep residual sums would saturate the softmax and hide every difference.
    """
    graph = model.graph
    shapes = _constant_shapes(graph)
    roles = _roles(graph)
    rng = np.random.default_rng(seed)
    fresh = {name: _draw(rng, shape, roles.get(name, "bias")) for name, shape in shapes.items()}
    _replace(graph, fresh)
    _rescale_logits(model, fresh, rng)


def _constant_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    initializers = {t.name: t for t in graph.initializer}
    shapes = {t.name: tuple(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in initializers:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is None or value.data_type == onnx.TensorProto.FLOAT:
                dims = numpy_helper.to_array(initializers[node.input[0]])
                shapes[node.output[0]] = tuple(int(d) for d in dims)
    return shapes


def _roles(graph: onnx.GraphProto) -> dict[str, str]:
    roles: dict[str, str] = {}
    source: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("Unsqueeze", "Reshape") and node.input:
            source[node.output[0]] = node.input[0]
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose"):
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            roles[node.input[1]] = "conv" if node.op_type == "Conv" else ("dense_t" if transposed else "dense")
        elif node.op_type == "BatchNormalization":
            for name, role in zip(node.input[1:], ("scale", "bias", "mean", "variance"), strict=False):
                roles[name] = role
        elif node.op_type in ("Mul", "PRelu"):
            for name in node.input:
                roles.setdefault(source.get(name, name), "scale")
    return roles


def _draw(rng: np.random.Generator, shape: tuple[int, ...], role: str) -> np.ndarray:
    normal = rng.standard_normal(shape)
    if role in ("conv", "dense", "dense_t"):
        fan_in = math.prod(shape[1:]) if role != "dense" else math.prod(shape[:1])
        value = normal * math.sqrt(2.0 / max(1, fan_in))
    elif role == "scale":
        value = 1.0 + 0.1 * normal
    elif role == "variance":
        value = 1.0 + 0.2 * np.abs(normal)
    else:
        value = 0.05 * normal
    return np.asarray(value, np.float32)


def _replace(graph: onnx.GraphProto, fresh: dict[str, np.ndarray]) -> None:
    kept_nodes = [n for n in graph.node if not (n.op_type == "ConstantOfShape" and n.output[0] in fresh)]
    kept_constants = [t for t in graph.initializer if t.name not in fresh]
    del graph.node[:]
    graph.node.extend(kept_nodes)
    used = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(t for t in kept_constants if t.name in used)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in fresh.items())
    inputs = [i for i in graph.input if i.name in used and i.name not in fresh and i.name not in
              {t.name for t in graph.initializer}]  # fmt: skip
    del graph.input[:]
    graph.input.extend(inputs)
    model_inputs = {i.name for i in graph.input}
    assert not model_inputs & set(fresh)


def _rescale_logits(model: onnx.ModelProto, fresh: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    import onnxruntime

    producers = {name: node for node in model.graph.node for name in node.output}
    for softmax in [n for n in model.graph.node if n.op_type == "Softmax"]:
        node = producers.get(softmax.input[0])
        while node is not None and node.op_type not in ("Gemm", "MatMul", "Conv"):
            node = producers.get(node.input[0])
        if node is None or node.input[1] not in fresh:
            continue
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        probe.ir_version = max(4, probe.ir_version)
        del probe.graph.output[:]
        probe.graph.output.append(onnx.ValueInfoProto(name=softmax.input[0]))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {}
        for value in session.get_inputs():
            if value.type != "tensor(float)" or not all(isinstance(d, int) for d in value.shape):
                return
            feeds[value.name] = rng.standard_normal(value.shape).astype(np.float32)
        spread = float(np.std(session.run(None, feeds)[0]))
        if not math.isfinite(spread) or spread <= 0:
            continue
        factor = np.float32(_STD_OF_LOGITS / spread)
        scaled = {name: fresh[name] * factor for name in node.input[1:] if name in fresh}
        for tensor in model.graph.initializer:
            if tensor.name in scaled:
                tensor.CopyFrom(numpy_helper.from_array(scaled[tensor.name], tensor.name))
