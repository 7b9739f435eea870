"""Another batch size for a model that was exported with a fixed one."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from tvm_globalsel.errors import UserError


def set_batch(model: onnx.ModelProto, batch: int) -> None:
    """Make ``batch`` the leading size of every input, in place.

    Exported models name the batch size in the targets of ``Reshape`` as well; those that reshape data (not constants)
    and begin with the old size follow. Raises :class:`UserError` when the inputs have no common leading size.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    shapes = [value.type.tensor_type.shape for value in inputs]
    sizes = {shape.dim[0].dim_value for shape in shapes if shape.dim}
    if len(sizes) != 1 or not all(shape.dim for shape in shapes):
        raise UserError("the batch size cannot be set: the inputs have no common leading size", "fix it with --shape")
    before = sizes.pop() or 1  # 0: a dynamic size, for which exporters write 1, 0 or -1 into their reshapes
    for shape in shapes:
        shape.dim[0].Clear()
        shape.dim[0].dim_value = batch
    if batch == before:
        return
    _follow(graph, constants, before, batch)
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    model.CopyFrom(onnx.shape_inference.infer_shapes(model))


def _follow(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], before: int, batch: int) -> None:
    fixed = set(constants)
    rewritten: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("Constant", "ConstantOfShape") or (node.input and all(n in fixed for n in node.input if n)):
            fixed.update(node.output)
        if node.op_type != "Reshape" or node.input[0] in fixed or node.input[1] not in constants:
            continue
        name = node.input[1]
        target = numpy_helper.to_array(constants[name])
        if target.size < 2 or target[0] != before:
            continue
        if name not in rewritten:  # the old constant may have other readers
            rewritten[name] = f"{name}_batch{batch}"
            value = np.concatenate([[batch], target[1:]]).astype(np.int64)
            graph.initializer.append(numpy_helper.from_array(value, rewritten[name]))
        node.input[1] = rewritten[name]
