"""ONNX's own backend node tests as models whose parameters are constants, as every trained network has them."""

from __future__ import annotations

import functools
import importlib
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

#: Module of the onnx package with the tests of an operator -> the inputs that are data; the others become constants.
MODULES = {
    "conv": 1, "maxpool": 1, "averagepool": 1, "globalaveragepool": 1, "globalmaxpool": 1, "gemm": 1, "matmul": 1,
    "concat": 9, "batch_normalization": 1, "lrn": 1, "softmax": 1, "relu": 1, "clip": 1, "leakyrelu": 1, "sigmoid": 1,
    "tanh": 1, "elu": 1, "hardsigmoid": 1, "hardswish": 1, "gelu": 1, "exp": 1, "sqrt": 1, "abs": 1, "neg": 1,
    "pow": 1, "add": 2, "sum": 9, "mul": 2, "sub": 2, "div": 2, "flatten": 1, "reshape": 1, "identity": 1, "dropout": 1,
}  # fmt: skip


@dataclass(frozen=True)
class NodeCase:
    """One test: a model with one operator, its inputs by name and its expected outputs."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: list[np.ndarray]
    rtol: float
    atol: float


@functools.cache
def node_cases() -> dict[str, NodeCase]:
    """Every test with one node, by name (the ``expanded`` ones test ONNX's own decompositions of the same nodes)."""
    from onnx.backend.test.case import node

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reference implementations that overflow on purpose
        for module, data_inputs in MODULES.items():
            before = len(node._NodeTestCases)
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
            for case in node._NodeTestCases[before:]:
                if len(case.model.graph.node) == 1 and not case.name.endswith("_expanded"):
                    found[case.name] = _case(case, data_inputs)
    return found


def _case(case: object, data_inputs: int) -> NodeCase:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    arrays, outputs = case.data_sets[0]
    names = [value.name for value in model.graph.input]
    inputs = dict(zip(names[:data_inputs], arrays, strict=False))
    for name, array in list(zip(names, arrays, strict=True))[data_inputs:]:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return NodeCase(case.name, model, inputs, [np.asarray(o) for o in outputs], case.rtol, case.atol)
