"""Networks that compute in another type than their caller's float32.

All float32 values inside become that type; conversions stand at the border, operators like any other, so that the
selection finds the layout in which to convert.
"""

from __future__ import annotations

import dataclasses

from te_kernels.gpu import FLOAT32
from te_kernels.task import CastTask, OpaqueTask, ViewTask
from tvm_globalsel.graph import Network, Operator


def in_precision(network: Network, dtype: str) -> Network:
    """The network with conversions at its border; itself when it computes in float32."""
    if dtype == FLOAT32:
        return network
    shapes = network.shapes
    others = {value.name for value in network.inputs if value.dtype != FLOAT32}
    for op in network.operators:
        viewed = isinstance(op.task, ViewTask) and op.inputs[0] in others
        if viewed or (isinstance(op.task, OpaqueTask) and op.task.out_dtype != FLOAT32):
            others.add(op.name)
    names: dict[str, str] = {}
    operators: list[Operator] = []
    for value in network.inputs:
        if value.dtype == FLOAT32:
            names[value.name] = f"{value.name}:{dtype}"
            operators.append(Operator(names[value.name], CastTask(value.shape, FLOAT32, dtype), (value.name,), ()))
    for op in network.operators:
        operators.append(dataclasses.replace(op, inputs=tuple(names.get(name, name) for name in op.inputs)))
    made = {op.name for op in network.operators}
    outputs: list[str] = []
    for name in network.outputs:
        if name in made and name not in others:
            converted = f"{name}:{FLOAT32}"
            if converted not in outputs:
                operators.append(Operator(converted, CastTask(shapes[name], dtype, FLOAT32), (name,), ()))
            outputs.append(converted)
        else:
            outputs.append(name)
    return dataclasses.replace(network, operators=tuple(operators), outputs=tuple(outputs))
