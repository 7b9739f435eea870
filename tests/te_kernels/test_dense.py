"""Fully connected layers against the float64 oracle."""

from __future__ import annotations

import dataclasses

import pytest

from te_kernels.dense.dense import Dense
from te_kernels.epilogue import Step
from te_kernels.task import DenseTask
from tests.te_kernels import kernel_checks
from tests.te_kernels.kernel_checks import MACHINE, check_all

V = MACHINE.vector_lanes
STEPS = (Step("scale"), Step("bias"), Step("add"), Step("relu"))


@pytest.mark.parametrize(
    ("task", "candidates"),
    [
        (DenseTask((1, 64), 100, STEPS), 1),
        (DenseTask((1, 500), 1000, (Step("bias"),)), 2),
        (DenseTask((3, 37), 10), 1),
        (DenseTask((7, 130), 4 * V, (Step("bias"), Step("relu"))), 1),
        (DenseTask((33, 64), 3 * V + 1, STEPS), 1),
        (DenseTask((1, 2 * V, 3, 5), 40, STEPS), 3),
        (DenseTask((2, V + 3, 3, 3), 40), 3),
        (DenseTask((1, V + 3, 1, 1), 5), 3),
        (DenseTask((2, 3, 4, 2, 3), 20), 1),
    ],
    ids=str,
)
def test_dense(task: DenseTask, candidates: int) -> None:
    assert len(check_all(task)) == candidates


@pytest.mark.parametrize("features", [1000, 1001, 2])
def test_reduction_in_parts(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks, "MACHINE", dataclasses.replace(MACHINE, threads=2))
    for task in (DenseTask((1, features), 10, (Step("bias"),)), DenseTask((3, features), 2 * V + 1)):
        variant = Dense("plain", 2, V, 2, 2, 2)
        assert kernel_checks.error_of(task, variant) <= variant.error_bound(task)


@pytest.mark.parametrize("features", [515, 1024, 7])
@pytest.mark.parametrize(("batch", "vectors", "streams"), [(1, 2, 8), (1, 1, 7), (3, 2, 4), (8, 1, 3)])
def test_streams_of_weights(features: int, batch: int, vectors: int, streams: int) -> None:
    task = DenseTask((batch, features), 5 * V + 3, STEPS)
    variant = Dense("plain", vectors, V, batch, 1, streams)
    assert kernel_checks.error_of(task, variant) <= variant.error_bound(task)


def test_long_weights_are_also_read_in_many_streams() -> None:
    machine = dataclasses.replace(MACHINE, vector_lanes=16, vector_registers=32, threads=1)

    def streams(batch: int, features: int, k: int) -> list[int]:
        return [variant.streams for variant in Dense.candidates(DenseTask((batch, features), k), machine)]

    assert [streams(batch, 1024, 1024) for batch in (1, 8, 64)] == [[1, 8], [1, 3], [1]]
    assert streams(1, 128, 256) == [1]
