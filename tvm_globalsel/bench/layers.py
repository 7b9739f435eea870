"""Single convolutions: from a table, from networks, and as one-layer models for other engines."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from te_kernels.epilogue import Step
from te_kernels.task import ConvTask
from tvm_globalsel.errors import UserError
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx, load_model, prepare

COLUMNS = ("in_channels", "in_size", "kernel", "out_channels", "stride", "pad", "groups")
_BIAS = (Step("bias"),)


@dataclass(frozen=True)
class Layer:
    """A convolution with a bias. ``source`` names where it comes from."""

    task: ConvTask
    source: str

    @property
    def label(self) -> str:
        """The seven columns of the table; what is not square is written ``AxB``, uneven padding ``A/B/C/D``."""
        t = self.task
        pad = str(t.pad[0]) if len(set(t.pad)) == 1 else "/".join(map(str, t.pad))
        columns = (str(t.c), _pair(t.h, t.w), _pair(t.r, t.s), str(t.k), _pair(*t.stride), pad, str(t.groups))
        return ",".join(columns) + ("" if t.dilation == (1, 1) else f",dilation {_pair(*t.dilation)}")


def _pair(a: int, b: int) -> str:
    return str(a) if a == b else f"{a}x{b}"


def read_table(path: Path) -> list[Layer]:
    """Layers of a CSV whose header has ``COLUMNS`` (others are ignored)."""
    layers = []
    try:
        with open(path, newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    c, size, kernel, k, stride, pad, groups = (int(row[name]) for name in COLUMNS)
                    task = ConvTask(
                        1, c, size, size, k, kernel, kernel, (stride, stride), (pad,) * 4, (1, 1), groups, _BIAS
                    )
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{path}, line {number}: not a layer ({error})", f"the columns are {', '.join(COLUMNS)}"
                    ) from error
                layers.append(Layer(task, path.stem))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "give the path of a table of layers") from error
    return layers


def of_network(path: Path) -> list[Layer]:
    """Every distinct convolution of an ONNX file, with a bias instead of its own epilogue so that engines compare."""
    imported = import_onnx(prepare(load_model(path)), str(path))
    tasks = {op.task: None for op in extract(imported.module).operators if isinstance(op.task, ConvTask)}
    return distinct([Layer(replace(task, epilogue=_BIAS), path.stem.removeprefix("light_")) for task in tasks])


def distinct(layers: list[Layer]) -> list[Layer]:
    """The first layer of every shape."""
    found: dict[str, Layer] = {}
    for layer in layers:
        found.setdefault(layer.task.key, layer)
    return list(found.values())


def one_layer_model(task: ConvTask, weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """The convolution with its bias as an ONNX model with input ``x`` and output ``y``."""
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], name="conv", kernel_shape=[task.r, task.s], strides=list(task.stride),
        pads=list(task.pad), dilations=list(task.dilation), group=task.groups,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, task.input_shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, task.output_shape)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
