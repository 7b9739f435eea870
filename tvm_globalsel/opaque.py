"""Arguments and verdict for operators that are checked against TVM's own lowering, not against numpy."""

from __future__ import annotations

import math

import numpy as np

from te_kernels.task import OpaqueTask


def opaque_arguments(task: OpaqueTask) -> list[np.ndarray]:
    """Seeded random inputs and constants."""
    rng = np.random.default_rng(0)
    arrays = []
    for shape, dtype in zip((*task.shapes, *task.constant_shapes), task.dtypes, strict=True):
        floating = dtype.startswith("float")
        drawn = rng.standard_normal(shape) if floating else rng.integers(0, 2, shape)
        arrays.append(np.array(drawn, dtype, order="C"))  # ascontiguousarray drops rank 0
    return arrays


def opaque_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest error relative to the largest finite expected element; inf when other elements are not finite."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return math.inf
    scale = float(np.abs(expected[finite]).max(initial=0.0)) or 1.0
    return float(np.abs(got[finite] - expected[finite]).max(initial=0.0)) / scale
