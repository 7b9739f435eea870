"""The network as the selection sees it: operators with tasks, values by name. No TVM in here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from te_kernels.task import PairTask, Task


@dataclass(frozen=True)
class Value:
    """A graph input: its name, logical shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Operator:
    """One operator with its fused epilogue. Its output value bears its own ``name``.

    ``inputs`` are value names in the order of ``task.input_shapes``; ``params`` the constants in the order of
    ``task.param_shapes``.
    """

    name: str
    task: Task
    inputs: tuple[str, ...]
    params: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)
    #: The operator that makes the first input, and the task of both, if one kernel may do both.
    absorbs: Operator | None = field(default=None, compare=False, repr=False)
    pair: PairTask | None = field(default=None, compare=False, repr=False)
    #: The task of this operator and the one behind, if one kernel may do both.
    absorbed_by: PairTask | None = field(default=None, compare=False, repr=False)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What its kernel may do: the operator alone, or the pair that ends with it."""
        return (self.task,) if self.pair is None else (self.task, self.pair)


@dataclass(frozen=True)
class Network:
    """A whole network in topological order. ``outputs`` are value names, in the caller's order."""

    inputs: tuple[Value, ...]
    operators: tuple[Operator, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        defined = [value.name for value in self.inputs]
        for op in self.operators:
            missing = [name for name in op.inputs if name not in set(defined)]
            if missing:
                raise ValueError(f"operator {op.name!r} reads {missing} before they are computed")
            if len(op.inputs) != len(op.task.input_shapes):
                raise ValueError(
                    f"operator {op.name!r} has {len(op.inputs)} inputs, its task wants {len(op.task.input_shapes)}"
                )
            defined.append(op.name)
        twice = [name for name, count in Counter(defined).items() if count > 1]
        if twice:
            raise ValueError(f"values are defined twice: {twice}")
        unknown = [name for name in self.outputs if name not in set(defined)]
        if unknown:
            raise ValueError(f"outputs {unknown} are not computed")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Logical shape of every value."""
        return {v.name: v.shape for v in self.inputs} | {o.name: o.task.output_shape for o in self.operators}


def weight_bytes(network: Network) -> int:
    """Bytes of all constants, as the model has them."""
    return sum(param.nbytes for op in network.operators for param in op.params)
