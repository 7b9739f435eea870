"""Networks inside a bundle: operators without their weights, so that the target can assemble and time whole plans."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from te_kernels.task import Task, from_dict
from tvm_globalsel.graph import Network, Operator, Value


@dataclass(frozen=True)
class Packed:
    """One network at one batch size. ``weights`` says where its weights lie between inferences (see ``Context``)."""

    name: str
    batch: int
    weights: str
    network: Network

    @property
    def label(self) -> str:
        """Name and batch size."""
        return f"{self.name}, batch {self.batch}"

    def to_json(self) -> dict[str, Any]:
        """As JSON data, without weights."""
        network = self.network
        return {
            "name": self.name, "batch": self.batch, "weights": self.weights,
            "inputs": [{"name": v.name, "shape": list(v.shape), "dtype": v.dtype} for v in network.inputs],
            "operators": [
                {"name": op.name, "task": op.task.to_dict(), "inputs": list(op.inputs)} for op in network.operators
            ],
            "outputs": list(network.outputs),
        }  # fmt: skip


def from_json(body: dict[str, Any]) -> Packed:
    """The inverse; raises ValueError, KeyError or TypeError for anything else."""
    inputs = tuple(
        Value(str(v["name"]), tuple(int(size) for size in v["shape"]), str(v["dtype"])) for v in body["inputs"]
    )
    operators = tuple(
        Operator(str(op["name"]), from_dict(op["task"]), tuple(map(str, op["inputs"]))) for op in body["operators"]
    )
    network = Network(inputs, operators, tuple(map(str, body["outputs"])))
    return Packed(str(body["name"]), int(body["batch"]), str(body["weights"]), network)


def with_batch(network: Network, batch: int, now: int = 1) -> Network:
    """The network for ``batch`` samples instead of ``now``; raises ValueError when it is not one for so many.

    On the tasks, because many models fix the batch size in the constants of their reshapes.
    """
    inputs = tuple(dataclasses.replace(v, shape=_resized_shape(v.shape, batch, now)) for v in network.inputs)
    operators = tuple(dataclasses.replace(op, task=resized(op.task, batch, now)) for op in network.operators)
    return dataclasses.replace(network, inputs=inputs, operators=operators)


def resized(task: Task, batch: int, now: int) -> Task:
    """The task for ``batch`` samples instead of ``now``; raises ValueError when it is not one for so many."""
    names = {field.name for field in dataclasses.fields(task)}
    changed: dict[str, Any] = {
        name: _resized_shape(getattr(task, name), batch, now)
        for name in ("shape", "data_shape", "from_shape", "to_shape")
        if name in names
    }
    if "n" in names:
        changed["n"] = _resized_shape((int(vars(task)["n"]),), batch, now)[0]
    if not changed:
        raise ValueError(f"{task.kind} has no batch size that could be changed")
    return dataclasses.replace(task, **changed)


def _resized_shape(shape: tuple[int, ...], batch: int, now: int) -> tuple[int, ...]:
    if not shape or shape[0] != now:
        raise ValueError(f"a tensor of shape {shape} has no batch of {now} samples")
    return (batch, *shape[1:])
