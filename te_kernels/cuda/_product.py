"""What variants around a tiled product share: convolutions, Winograd, dense layers; CUDA cores or tensor cores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import tvm

from te_kernels.cuda._base import GpuVariant
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.task import ConvTask, DenseTask
from te_kernels.variant import Layouts, Reject

#: Below this batch a tile of rows is mostly empty.
_SMALLEST_BATCH = 4


class Program(Protocol):
    """A layer as a product under a tile."""

    def pack(self, params: list[np.ndarray]) -> list[np.ndarray]:
        """Parameters as the kernel reads them."""

    def workspace_bytes(self) -> int:
        """What it needs beside its arguments."""

    def prim_func(self) -> tvm.tirx.PrimFunc:
        """The scheduled kernel."""


@dataclass(frozen=True)
class ProductVariant(GpuVariant):
    """Base: everything follows from the program."""

    def program(self, task: Any) -> Program:
        """The layer under this variant's tile."""
        raise NotImplementedError

    def pack(self, task: Any, params: list[np.ndarray]) -> list[np.ndarray]:
        """Weights as the product reads them."""
        return self.program(task).pack(params)

    def prim_func(self, task: Any, machine: Gpu) -> tvm.tirx.PrimFunc:
        """The kernels."""
        return self.program(task).prim_func()

    def workspace_bytes(self, task: Any, threads: int = 1) -> int:
        """Partial sums, transformed values."""
        return self.program(task).workspace_bytes()


_Ranked = TypeVar("_Ranked", bound=GpuVariant)


def cheapest_first(instances: Iterable[_Ranked], task: Any, machine: Gpu) -> list[_Ranked]:
    """By their models; equals stay in order."""
    return sorted(instances, key=lambda instance: instance.model_s(task, machine))


def conv_layouts(task: ConvTask, data: str, out: str) -> Layouts:
    """Epilogue tensors are in the output's layout."""
    return Layouts((data,) + (out,) * (len(task.input_shapes) - 1), out)


def dense_layouts(task: DenseTask, data: str) -> Layouts:
    """Row-major rows out; the epilogue's tensors are such rows as well."""
    return Layouts((data,) + ("plain",) * (len(task.input_shapes) - 1), "plain")


def reject_thin_groups(task: ConvTask, data: str, out: str) -> None:
    """Reject groups of one channel, and groups that are not whole blocks of a layout."""
    if task.depthwise:
        raise Reject(f"depthwise ({task.groups} groups of one channel): products of one row; cuda_direct covers it")
    for name, channels in ((data, task.c // task.groups), (out, task.k // task.groups)):
        block = Layout(name).block
        if task.groups > 1 and block and channels % block:
            raise Reject(f"groups of {channels} channels are not whole blocks of {name}")


def reject_few_rows(task: DenseTask) -> None:
    """Reject batches that one thread for each output serves better."""
    if task.data_shape[0] < _SMALLEST_BATCH:
        raise Reject(f"a batch of {task.data_shape[0]} leaves tiles mostly empty; cuda_dense streams the weights")
