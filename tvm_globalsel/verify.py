"""Compare a deployed module with ONNX Runtime on seeded inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.read import read_model
from tvm_globalsel.runtime import Deployed

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Verdict:
    """Largest |difference| relative to the largest |reference| element, over all outputs and seeds."""

    relative_error: float
    tolerance: float
    samples: int

    @property
    def passed(self) -> bool:
        """Whether the module agrees."""
        return self.relative_error <= self.tolerance


def verify(
    folder: str | Path, model: str | Path, seed_weights: int | None = None, tolerance: float = TOLERANCE,
    samples: int = 2, weights: Path | None = None,
) -> Verdict:  # fmt: skip
    """Run both on ``samples`` seeded inputs. The model must be the one that was compiled, with the same weights."""
    deployed = Deployed(folder)
    shapes = {i["name"]: tuple(i["shape"]) for i in deployed.plan["inputs"]}
    if seed_weights is None and weights is None:
        seed_weights = deployed.plan.get("seed_weights")
    session = reference_session(read_model(model, shapes, seed_weights, weights))
    names = [o.name for o in session.get_outputs()]
    if names != [o["name"] for o in deployed.plan["outputs"]]:
        raise UserError(
            f"{model}: its outputs {names} are not those of the compiled module", "give the model that was compiled"
        )
    worst = 0.0
    for seed in range(samples):
        inputs = deployed.random_inputs(seed)
        expected = dict(zip(names, session.run(names, inputs), strict=True))
        got = deployed.run(inputs)
        for name in names:
            worst = max(worst, relative_error(got[name], expected[name]))
    return Verdict(worst, tolerance, samples)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute reference; infinite where shapes, NaN or inf differ."""
    if got.shape != expected.shape or not np.array_equal(np.isfinite(got), np.isfinite(expected)):
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    got, expected = got[finite].astype(np.float64), expected[finite].astype(np.float64)
    return float(np.abs(got - expected).max()) / (float(np.abs(expected).max()) or 1.0)


def reference_session(model: onnx.ModelProto) -> Any:
    """ONNX Runtime on one CPU thread, for a prepared model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
