"""ONNX files to Relax through TVM's own importer, with static shapes and clear refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import tvm
from google.protobuf.message import DecodeError
from tvm.relax.frontend import onnx as importer

from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.quiet import quiet
from tvm_globalsel.frontends.seed import seed_weights

_MAX_FILE_BYTES = 2 << 30


@dataclass(frozen=True)
class Imported:
    """A Relax module, and the ONNX names of its operators by Relax operator, in order, for people to read."""

    module: tvm.IRModule
    names: dict[str, list[str]]
    input_names: list[str]
    output_names: list[str]


def load_model(path: str | Path) -> onnx.ModelProto:
    """Read an ONNX file; raises :class:`UserError` when it is missing, empty, truncated or not ONNX."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file", "give the path of an ONNX model")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise UserError(f"{path}: larger than 2 GiB", "store the weights as external data beside it")
    try:
        model = onnx.load(str(path))
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise UserError(f"{path}: not a readable ONNX model ({_first_line(error)})", "is the file complete?") from error
    if not model.graph.node or not model.graph.output:
        raise UserError(f"{path}: the model has no operators or no outputs", "is it an ONNX model?")
    return model


def prepare(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]] | None = None, seed: int | None = None
) -> onnx.ModelProto:
    """A copy with static input shapes, two-input ``Sum`` as ``Add``, and, with ``seed``, seeded random weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(4, copy.ir_version)  # before 4, every constant had to be listed as an input
    _constants_are_not_inputs(copy)
    _set_shapes(copy, shapes or {})
    if seed is not None:
        seed_weights(copy, seed)
    _sums_to_adds(copy.graph)
    return onnx.shape_inference.infer_shapes(copy) if shapes else copy


def import_onnx(model: onnx.ModelProto, label: str = "model") -> Imported:
    """Relax module of a prepared model."""
    known = importer.onnx_frontend._get_convert_map()
    for node in model.graph.node:
        if node.op_type not in known:
            where = node.name or (node.output[0] if node.output else "?")
            raise UserError(
                f"{label}: node {where!r}: operator {node.op_type} is not supported",
                "replace it or export the model without it",
            )
    _refuse_wrong_dropout(model, label)
    try:
        with quiet():
            module = _relax_of(model)
    except Exception as error:  # the importer raises whatever it likes; the message is all there is
        raise UserError(
            f"{label}: TVM's ONNX importer refuses the model ({_first_line(error)})",
            "simplify the model or export it with another opset",
        ) from error
    graph_inputs = [i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer}]
    return Imported(module, _names(model), graph_inputs, [o.name for o in model.graph.output])


def _relax_of(model: onnx.ModelProto) -> tvm.IRModule:
    """What TVM's ``from_onnx`` does, but for ONNX's checker, which only warns and has all weights written out first."""
    opsets = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    graph = importer.onnx_frontend.ONNXGraphImporter({}, "float32", keep_params_in_input=False, sanitize=True)
    return graph.from_onnx(model.graph, opsets[0] if opsets else 1)


def _refuse_wrong_dropout(model: onnx.ModelProto, label: str) -> None:
    """Training mode, which TVM's importer ignores, and masks, for which it returns the data."""
    constants = {t.name: t for t in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    for node in model.graph.node:
        flags = [a.i for a in node.attribute if a.name == "training_mode"]
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
            flags.append(int(onnx.numpy_helper.to_array(constants[node.input[2]]).any()))
        where = f"{label}: node {node.name or node.output[0]!r}: {node.op_type}"
        if any(flags):
            raise UserError(f"{where} is in training mode", "export the model for inference")
        if node.op_type == "Dropout" and len(node.output) > 1 and node.output[1] in read:
            raise UserError(f"{where}: its mask is used", "remove the mask, which inference does not have")


#: ONNX operator -> the Relax operator that bears its name
_NAMED = {
    "Conv": "relax.nn.conv2d", "MaxPool": "relax.nn.max_pool2d", "AveragePool": "relax.nn.avg_pool2d",
    "Concat": "relax.concat", "Gemm": "relax.matmul", "MatMul": "relax.matmul", "Softmax": "relax.nn.softmax",
    "BatchNormalization": "relax.nn.batch_norm", "Relu": "relax.nn.relu", "LRN": "relax.nn.avg_pool3d",
    "GlobalAveragePool": "relax.mean",
}  # fmt: skip


def _names(model: onnx.ModelProto) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in _NAMED:
            names.setdefault(_NAMED[node.op_type], []).append(node.name or node.output[0])
    return names


def _set_shapes(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    unknown = set(shapes) - {i.name for i in inputs}
    if unknown:
        raise UserError(
            f"--shape names {sorted(unknown)}, which are not inputs", f"the inputs are {[i.name for i in inputs]}"
        )
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        wanted = shapes.get(value.name)
        if wanted is not None:
            if len(dims) not in (0, len(wanted)):
                raise UserError(f"--shape {value.name}: the input has rank {len(dims)}, not {len(wanted)}")
            if min(wanted, default=1) < 1:
                raise UserError(f"--shape {value.name}: sizes must be positive, got {wanted}")
            del dims[:]
            for size in wanted:
                dims.add().dim_value = size
        open_dims = [d.dim_param or "?" for d in dims if not d.HasField("dim_value") or d.dim_value < 1]
        if open_dims or not value.type.tensor_type.HasField("shape"):
            example = ",".join(str(d.dim_value) if d.dim_value > 0 else "1" for d in dims) or "1,3,224,224"
            raise UserError(
                f"input {value.name!r} has a dynamic shape ({', '.join(open_dims) or 'no rank'})",
                f"fix it with --shape {value.name}={example}",
            )
    if shapes:  # shapes recorded for another input size would contradict the new one
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")


def _sums_to_adds(graph: onnx.GraphProto) -> None:
    """``Sum`` of several inputs imports as stack + reduce; the equivalent chain of ``Add`` fuses into kernels."""
    nodes = []
    for node in graph.node:
        if node.op_type != "Sum" or len(node.input) < 2:
            nodes.append(node)
            continue
        left = node.input[0]
        for i, right in enumerate(node.input[1:], start=1):
            last = i == len(node.input) - 1
            out = node.output[0] if last else f"{node.output[0]}_sum{i}"
            nodes.append(onnx.helper.make_node("Add", [left, right], [out], name=f"{node.name}_add{i}"))
            left = out
    del graph.node[:]
    graph.node.extend(nodes)


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded random arrays for every input of a prepared model."""
    rng = np.random.default_rng(seed)
    constants = {t.name for t in model.graph.initializer}
    arrays = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.issubdtype(dtype, np.floating):
            arrays[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            arrays[value.name] = rng.integers(0, 8, shape).astype(dtype)
    return arrays


def _constants_are_not_inputs(model: onnx.ModelProto) -> None:
    """Remove initializers from the inputs, where IR version 3 lists them."""
    constants = {t.name for t in model.graph.initializer}
    kept = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return re.sub(r"\s+", " ", text)[:200]
