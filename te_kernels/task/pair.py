"""Two operators in a row, done by one kernel that never stores what lies between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from te_kernels.epilogue import Epilogue, tensor_count
from te_kernels.task.base import Shape, Task
from te_kernels.task.channels import ShuffleTask
from te_kernels.task.layers import ConvTask, PoolTask


@dataclass(frozen=True)
class PairTask(Task):
    """``second`` of what ``first`` makes of the data, each with its own epilogue; one at least is a convolution.

    Inputs: the data of ``first``, then the tensors that the epilogue of ``second`` reads; that of ``first`` reads none.
    Parameters: those of ``first``, then those of ``second``.
    """

    kind = "conv2d_pair"
    first: ConvTask | ShuffleTask
    second: ConvTask | PoolTask

    def __post_init__(self) -> None:
        if self.first.output_shape != self.second.input_shapes[0]:
            raise ValueError(
                f"the first makes {self.first.output_shape}, the second reads {self.second.input_shapes[0]}"
            )
        if tensor_count(self.first.steps):
            raise ValueError("the epilogue of the first reads a tensor")

    @property
    def steps(self) -> Epilogue:
        return self.second.steps

    @property
    def output_shape(self) -> Shape:
        return self.second.output_shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.first.input_shapes[0], *self.second.input_shapes[1:])

    @property
    def param_shapes(self) -> tuple[Shape, ...]:
        return (*self.first.param_shapes, *self.second.param_shapes)

    @property
    def flops(self) -> int:
        return self.first.flops + self.second.flops

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "first": self.first.to_dict(), "second": self.second.to_dict()}

    def split(self, params: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The parameters of ``first`` and of ``second``."""
        count = len(self.first.param_shapes)
        return params[:count], params[count:]

    def reference(self, inputs: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
        first, second = self.split(params)
        return self.second.reference([self.first.reference(inputs[:1], first), *inputs[1:]], second)
