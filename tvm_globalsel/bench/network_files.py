"""A prepared ONNX model as plain files, for engines in interpreters that have neither onnx nor this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def write(model: onnx.ModelProto, x: np.ndarray, expected: np.ndarray, folder: Path) -> None:
    """``network.json``, ``weights.npz``, ``x.npy`` and ``expected.npy`` of a model with one input and one output."""
    graph = model.graph
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    operators: list[dict[str, Any]] = []
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            weights[node.output[0]] = numpy_helper.to_array(attributes["value"])
            continue
        inputs = list(node.input)[:1] if node.op_type == "Dropout" else list(node.input)
        operators.append({
            "type": node.op_type, "inputs": inputs, "output": node.output[0],
            "attributes": {name: value for name, value in attributes.items() if isinstance(value, int | float | list)},
        })  # fmt: skip
    names = {name: f"w{number}" for number, name in enumerate(weights)}  # any name is not a file's name
    arrays = {names[name]: array for name, array in weights.items()}
    np.savez(folder / "weights.npz", **arrays)
    np.save(folder / "x.npy", x)
    np.save(folder / "expected.npy", expected)
    described = {
        "input": graph.input[0].name, "output": graph.output[0].name, "weights": names, "operators": operators,
    }  # fmt: skip
    (folder / "network.json").write_text(json.dumps(described))
