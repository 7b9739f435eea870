"""Write the networks of the benchmark with seeded weights, each checked and run once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tvm_globalsel.bench.zoo.architectures import BY_HAND
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.batch import set_batch
from tvm_globalsel.frontends.onnx import load_model, prepare, random_inputs
from tvm_globalsel.verify import reference_session

_LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
_SHIPPED = {"bvlc_alexnet": "alexnet"}
_MOST_PROBABLE = 0.999
_LEAST_SPREAD, _LARGEST = 1e-7, 1e4


@dataclass(frozen=True)
class Written:
    """A network on disk and what its trial run gave: the outputs' largest element and their standard deviation."""

    path: Path
    parameters: int
    largest: float
    spread: float


def names() -> list[str]:
    """Every network that can be made; the light nets only where ``onnx`` ships them."""
    light = [path.stem.removeprefix("light_") for path in _LIGHT.glob("light_*.onnx")]
    return sorted([*(_SHIPPED.get(name, name) for name in light), *BY_HAND])


def make(name: str, folder: Path, batch: int = 1, seed: int = 0) -> Written:
    """Write ``folder/NAME.onnx``; raises :class:`UserError` for an unknown name or a degenerate network."""
    if name not in names():
        raise UserError(f"{name!r} is not a network of the zoo", f"choose from {', '.join(names())}")
    if name in BY_HAND:
        plain = BY_HAND[name](batch)
    else:
        shipped = {new: old for old, new in _SHIPPED.items()}.get(name, name)
        plain = load_model(_LIGHT / f"light_{shipped}.onnx")
    model = prepare(plain, seed=seed)
    set_batch(model, batch)
    onnx.checker.check_model(model, full_check=True)
    outputs = reference_session(model).run(None, random_inputs(model, seed))
    largest, spread = _examine(name, outputs[0], model)
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    parameters = sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    return Written(path, parameters, largest, spread)


def _examine(name: str, output: np.ndarray, model: onnx.ModelProto) -> tuple[float, float]:
    """Refuses outputs in which differences between engines would not show."""
    largest, spread = float(np.abs(output).max()), float(output.std())
    probabilities = any(node.op_type == "Softmax" and node.output[0] == model.graph.output[0].name
                        for node in model.graph.node)  # fmt: skip
    limit = _MOST_PROBABLE if probabilities else _LARGEST
    if not np.isfinite(output).all() or not spread > _LEAST_SPREAD or not largest < limit:
        raise UserError(
            f"{name}: outputs are degenerate (largest {largest:.3g}, deviation {spread:.3g})", "use another seed"
        )
    return largest, spread
