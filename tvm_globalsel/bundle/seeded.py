"""Seeded inputs and weights for a network whose own were left behind, and its outputs in float64."""

from __future__ import annotations

import math
import zlib

import numpy as np

from te_kernels.task import ConvTask, DenseTask
from tvm_globalsel.graph import Network, Operator

#: A residual sum doubles the variance; what is added is scaled down, so that deep networks stay within float16.
_RESIDUAL = 0.3


def weights(network: Network) -> dict[str, list[np.ndarray]]:
    """Parameters of every operator by its name, float32, in its task's order; the same for every batch size."""
    return {op.name: _parameters(op) for op in network.operators}


def _parameters(op: Operator) -> list[np.ndarray]:
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    values = []
    for number, shape in enumerate(op.task.param_shapes):
        value = rng.standard_normal(shape, dtype=np.float32)
        if number == 0 and isinstance(op.task, ConvTask | DenseTask):  # He et al. 2015: keeps the variance through ReLU
            factor = math.sqrt(2.0 / math.prod(shape[1:]))
            value *= np.float32(factor * (_RESIDUAL if any(s.kind == "add" for s in op.task.steps) else 1.0))
        else:
            value *= np.float32(0.05)
            value += np.float32(op.task.steps[0].kind == "scale" if op.task.steps else 0)
        values.append(value)
    return values


def inputs(network: Network) -> dict[str, np.ndarray]:
    """Inputs by name. Sample ``i`` is the same whatever the batch size."""
    return {
        value.name: np.stack([
            np.random.default_rng([zlib.crc32(value.name.encode()), i]).standard_normal(value.shape[1:], np.float32)
            for i in range(value.shape[0])
        ]).astype(value.dtype)
        for value in network.inputs
    }  # fmt: skip


def reference(network: Network, params: dict[str, list[np.ndarray]], given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in float64, by the oracles of the operators one after the other."""
    values: dict[str, np.ndarray] = dict(given)
    left = {name: sum(op.inputs.count(name) for op in network.operators) for name in network.shapes}
    for op in network.operators:
        values[op.name] = op.task.reference([values[name] for name in op.inputs], params[op.name])
        for name in set(op.inputs):
            left[name] -= op.inputs.count(name)
            if left[name] == 0 and name not in network.outputs:
                del values[name]
    return [values[name] for name in network.outputs]
