"""Caffe networks for inference (.prototxt, optionally .caffemodel) to ONNX, so that everything behind has one way in.

Both formats of Caffe are read, ``layer { type: "Convolution" }`` and ``layers { type: CONVOLUTION }``. Layers that only
training has (``include { phase: TRAIN }``) are left out; data sources and losses are refused: what is wanted is the
network as it is deployed, with an Input layer or ``input`` fields.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.caffe_graph import GraphWriter, Layer, Shape
from tvm_globalsel.frontends.caffe_layers import CONVERTERS, V1_TYPES
from tvm_globalsel.frontends.caffe_schema import NetParameter

_MOST_TEXT_BYTES = 4 << 20
_MOST_WEIGHTS_BYTES = (2 << 30) - 1
_TEST = 1


def load_caffe(path: Path, shapes: Mapping[str, Shape] | None = None, weights: Path | None = None) -> onnx.ModelProto:
    """Read a network; ``shapes`` replace those of its inputs, ``weights`` is a .caffemodel with its weights.

    Without ``weights`` all are zeros for :func:`tvm_globalsel.frontends.seed.seed_weights` to replace. Raises
    :class:`UserError` that names file and layer for whatever is not understood.
    """
    net = _parse(path)
    messages = [m for m in (*net.layers, *net.layer) if _included(m)]
    inputs = _inputs(path, net, messages) | dict(shapes or {})
    arrays = None if weights is None else _read_weights(weights)
    layers = _single_assignment(path, list(inputs), [m for m in messages if _type(m) != "Input"])
    if not layers:
        raise UserError(f"{path}: the network has no layers", "is it a Caffe network?")
    graph = GraphWriter()
    for name, shape in inputs.items():
        graph.add_input(name, shape, f"{path}: input {name!r}")
    for layer in layers:
        if layer.type not in CONVERTERS:
            raise layer.refuse(
                f"layers of type {layer.type} are not supported", "give the network as it is deployed, for inference"
            )
        if arrays is not None:
            layer = dataclasses.replace(layer, weights=arrays.get(layer.name, ()))
        CONVERTERS[layer.type](layer, graph)
    read = {name for layer in layers for name in layer.bottoms}
    outputs = [name for layer in layers for name in layer.tops if name not in read]
    model = graph.model(net.name or path.stem, list(inputs), outputs)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UserError(
            f"{path}: names in the network clash ({str(error).splitlines()[0][:200]})",
            "give layers and blobs names of their own",
        ) from error
    return model


def _read(path: Path, most_bytes: int) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: no such file", "give the path of a Caffe network")
    try:
        if path.stat().st_size > most_bytes:
            raise UserError(f"{path}: larger than {most_bytes >> 20} MiB", "is it a Caffe network?")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: Path) -> Any:
    net = NetParameter()
    try:
        text_format.Parse(_read(path, _MOST_TEXT_BYTES).decode("utf-8"), net)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        where, _, what = text.partition(" : ")
        shown = f"line {where.split(':')[0]}: {what.rsplit(chr(39) + ': ', 1)[-1]}" if what else text
        raise UserError(
            f"{path}: not a Caffe network for inference ({shown[:200]})", "give the text of a deploy network"
        ) from error
    return net


def _included(message: Any) -> bool:
    """Whether the layer is part of the network in the phase TEST, at level 0, in no stage."""

    def met(rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or rule.phase == _TEST)
            and (not rule.HasField("min_level") or rule.min_level <= 0)
            and (not rule.HasField("max_level") or rule.max_level >= 0)
            and not rule.stage
        )

    if message.include:
        return any(met(rule) for rule in message.include)
    return not any(met(rule) for rule in message.exclude)


def _inputs(path: Path, net: Any, messages: list[Any]) -> dict[str, Shape]:
    """Names and shapes of the network's inputs, of Input layers and of the older ``input`` fields."""
    shapes: list[Shape] = [tuple(shape.dim) for shape in net.input_shape]
    shapes += [tuple(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
    named = list(zip_longest(net.input, shapes, fillvalue=()))
    for message in messages:
        if _type(message) == "Input":
            own = [tuple(shape.dim) for shape in message.input_param.shape]
            own *= len(message.top) if len(own) == 1 else 1  # one shape serves all tops
            named += zip_longest(message.top, own, fillvalue=())
    inputs = {str(name): shape for name, shape in named if name}
    if not named or len(inputs) != len(named):
        raise UserError(
            f"{path}: {'its inputs do not have a name and a shape each' if named else 'it has no Input layer'}",
            "give the network as it is deployed",
        )
    return inputs


def _single_assignment(path: Path, inputs: list[str], messages: list[Any]) -> list[Layer]:
    """The layers with a name of its own for every value: an in-place layer writes a new one.

    An input and the last value written to any other blob bear the blob's name, the others ``blob@0``, ``blob@1``, ...
    """
    last = Counter(top for message in messages for top in message.top)
    written = Counter(inputs)
    current = {name: name for name in inputs}
    names: set[str] = set()
    layers = []
    for position, message in enumerate(messages):
        kind = _type(message)
        label = f"{path}: layer {message.name or position!r} ({kind})"
        if not message.name or message.name in names:
            why = "another layer has this name too" if message.name else "it has no name"
            raise UserError(f"{label}: {why}", "give every layer a name of its own")
        names.add(message.name)
        if not message.bottom or not message.top or (len(message.top) > 1 and kind != "Split"):
            raise UserError(
                f"{label}: it has {len(message.bottom)} bottoms and {len(message.top)} tops",
                "give the network as it is deployed, for inference",
            )
        for bottom in message.bottom:
            if bottom not in current:
                raise UserError(f"{label}: no layer before it writes its bottom {bottom!r}", "is the file complete?")
        bottoms = tuple(current[name] for name in message.bottom)
        for top in message.top:
            if top in current and top not in message.bottom:
                raise UserError(f"{label}: another layer writes its top {top!r} too", "give it another name")
            written[top] += 1
            ends = written[top] == last[top] and top not in inputs
            current[top] = top if ends else f"{top}@{written[top] - 1}"
        tops = tuple(current[name] for name in message.top)
        layers.append(Layer(message.name, kind, bottoms, tops, message, None, label))
    return layers


def _type(message: Any) -> str:
    if isinstance(message.type, str):
        return message.type
    name = message.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[message.type].name
    return V1_TYPES.get(name, name)


def _read_weights(path: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """The arrays of every layer of a .caffemodel, by the layer's name, in float32."""
    net = NetParameter()
    try:
        net.ParseFromString(_read(path, _MOST_WEIGHTS_BYTES))
    except DecodeError as error:
        raise UserError(f"{path}: not a readable .caffemodel", "is the file complete?") from error
    found = {}
    for message in (*net.layers, *net.layer):
        arrays = tuple(np.array(b.data or b.double_data, np.float32) for b in message.blobs)
        if _type(message) == "BatchNorm" and len(arrays) == 3 and arrays[2].size == 1:
            # mean and variance are stored as sums over this many (decayed) batches
            batches = float(arrays[2][0])
            arrays = tuple(a / batches if batches else np.zeros_like(a) for a in arrays[:2])
        if arrays:
            found[message.name] = arrays
    if not found:
        raise UserError(f"{path}: it holds no weights", "is it the .caffemodel of this network?")
    return found
