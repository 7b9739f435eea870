"""Any model that can be compiled, as a prepared ONNX model: the one way in for what is behind."""

from __future__ import annotations

from pathlib import Path

import onnx

from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.caffe import load_caffe
from tvm_globalsel.frontends.onnx import load_model, prepare

_CAFFE = ".prototxt"


def read_model(
    model: str | Path | onnx.ModelProto, shapes: dict[str, tuple[int, ...]] | None = None, seed: int | None = None,
    weights: Path | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """An ONNX model or file, or a Caffe network (``.prototxt``), with static shapes and all its weights.

    ``shapes`` fix those of inputs; ``seed`` draws random weights; ``weights`` is a Caffe network's ``.caffemodel``.
    Raises :class:`UserError` for anything that cannot be read.
    """
    if not isinstance(model, onnx.ModelProto) and Path(model).suffix == _CAFFE:
        if (seed is None) == (weights is None):
            raise UserError(
                f"{model}: a .prototxt has no weights" if seed is None else f"{model}: --weights and --seed-weights",
                "give --weights FILE.caffemodel or --seed-weights N",
            )
        return prepare(load_caffe(Path(model), shapes, weights), shapes, seed)
    if weights is not None:
        raise UserError(f"--weights {weights}: only a Caffe network has its weights in another file", "leave it out")
    return prepare(model if isinstance(model, onnx.ModelProto) else load_model(model), shapes, seed)
