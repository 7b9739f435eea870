"""What a network should compute: every operator's float64 oracle, one after the other; and its floating point work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import tvm

from te_kernels.machine import host_target
from te_kernels.task import OpaqueTask
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, prepare
from tvm_globalsel.fuse import drop_dead
from tvm_globalsel.graph import Network, Operator


@dataclass(frozen=True)
class Reference:
    """Outputs in the model's order, float64 wherever an operator has an oracle; ``gflop`` by the textbook algorithm."""

    outputs: tuple[np.ndarray, ...]
    gflop: float


def reference(model: onnx.ModelProto, inputs: dict[str, np.ndarray], label: str) -> Reference:
    """Evaluate the network as it was imported: batch normalisation not folded, nothing fused."""
    imported = import_onnx(prepare(model), label)
    network = drop_dead(extract(imported.module, imported.names))
    names = imported.input_names or [value.name for value in network.inputs]
    arrays = {value.name: inputs[name] for name, value in zip(names, network.inputs, strict=True)}
    outputs = evaluate(network, arrays)
    return Reference(outputs, sum(op.task.flops for op in network.operators) / 1e9)


def evaluate(network: Network, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The network's outputs for inputs by value name; a value is dropped behind its last reader."""
    last = {name: i for i, op in enumerate(network.operators) for name in op.inputs}
    held = dict(arrays)
    for i, op in enumerate(network.operators):
        inputs = [held[name] for name in op.inputs]
        if isinstance(op.task, OpaqueTask):
            held[op.name] = _lowered(op, op.task, inputs)
        else:
            held[op.name] = op.task.reference(inputs, list(op.params))
        for name in set(op.inputs):
            if last[name] == i and name not in network.outputs:
                del held[name]
    return tuple(held[name] for name in network.outputs)


def _lowered(op: Operator, task: OpaqueTask, inputs: list[np.ndarray]) -> np.ndarray:
    """An operator that has no oracle, by TVM's own lowering without any schedule, in the operator's own precision."""
    assert task.lowered is not None
    func = task.lowered.with_attr("global_symbol", "main")
    module = tvm.compile(tvm.IRModule({"main": func}), target=host_target(1)).mod
    arrays = [np.asarray(x, dtype, order="C") for x, dtype in zip(inputs, task.dtypes, strict=True)]
    out = tvm.runtime.tensor(np.zeros(task.out_shape, task.out_dtype))
    module["main"](*[tvm.runtime.tensor(x) for x in (*arrays, *op.params)], out)
    return np.asarray(out.numpy())
