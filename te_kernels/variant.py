"""Variants: the ways to run a task. A variant is one file in a subpackage and is found by discovery; no list to edit.

A variant instance is frozen; its fields are the knobs, and with the class's ``name`` they are the log key and the
report's label. Arguments of every kernel, in order: data inputs (each in its layout), packed parameters, output.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm import te

import te_kernels
import te_kernels.epilogue
from te_kernels.gpu import Gpu
from te_kernels.layout import Layout
from te_kernels.machine import Machine
from te_kernels.task import ConvTask, DenseTask, Task


class Reject(Exception):
    """Raised by ``candidates`` with the sentence that tells why the variant does not apply; it reaches the report."""


@dataclass(frozen=True)
class Layouts:
    """Layout names of every data input (in the task's order) and of the output."""

    inputs: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        return f"{self.inputs[0] if self.inputs else '-'} -> {self.output}"


@dataclass(frozen=True)
class Variant:
    """Base of all variants.

    ``name`` is explicit and stable (logs refer to it), ``family`` groups variants in reports (direct, im2, kn2,
    winograd, fft, sum2d, ...), ``task_type`` is the task it runs, ``title`` one line for people.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    title: ClassVar[str]
    task_type: ClassVar[type[Task]]
    #: Kinds of targets that the variant can be built for.
    kinds: ClassVar[tuple[str, ...]] = ("llvm",)
    #: What :meth:`error_bound` is for variants of which every instance is equally exact.
    relative_error: ClassVar[float] = 2e-5
    #: Nothing is run, so the time is zero and nothing is measured: the choice is one of names and addresses only.
    needs_no_kernel: ClassVar[bool] = False

    @classmethod
    def candidates(cls, task: Any, machine: Any) -> Iterator[Variant]:
        """Instances worth measuring, most promising first; raises :class:`Reject` when there is none."""
        raise NotImplementedError

    def layouts(self, task: Any) -> Layouts:
        """Layouts this instance reads and writes."""
        raise NotImplementedError

    def pack(self, task: Any, params: list[np.ndarray]) -> list[np.ndarray]:
        """Parameters as the kernel wants them, done once at compile time. Default: unchanged."""
        return params

    def packed_bytes(self, task: Any) -> int | None:
        """Bytes of what :meth:`pack` returns, where that is known without packing."""
        return None

    def prim_func(self, task: Any, machine: Any) -> tvm.tirx.PrimFunc:
        """The scheduled kernel."""
        raise NotImplementedError

    def error_bound(self, task: Any) -> float:
        """Largest |error| relative to the largest |reference| element, in float32; checked on every measurement."""
        return self.relative_error

    def workspace_bytes(self, task: Any, threads: int = 1) -> int:
        """Scratch memory the kernel allocates beside its arguments, of all threads at once, at most."""
        return 0

    def arithmetic(self, task: Any) -> int:
        """Floating point operations of multiply-adds that this instance performs at least; a bound must be sound.

        Default: those of the textbook algorithm for convolutions and dense layers, none for tasks whose work is not
        multiply-adds. An algorithm that needs fewer (minimal filtering, FFT) must say so here.
        """
        return task.flops if isinstance(task, ConvTask | DenseTask) else 0

    @property
    def knobs(self) -> dict[str, Any]:
        """Fields and their values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @property
    def label(self) -> str:
        """Name and knobs on one line, e.g. ``direct_nchwc[pixels=14,vectors=2]``."""
        knobs = ",".join(f"{k}={v}" for k, v in self.knobs.items())
        return f"{self.name}[{knobs}]" if knobs else self.name


def epilogue_placeholders(
    task: Task, output_layout: str, padded_channels: int | None = None
) -> tuple[list[te.Tensor], list[te.Tensor], list[Any], list[Any]]:
    """Placeholders for the epilogue of ``task`` and their readers for :func:`te_kernels.epilogue.apply`.

    Returns (tensor inputs, channel constants, tensor readers, constant readers). Channel constants have length
    ``padded_channels`` (default: the output's channels); pack them with :func:`pad_channels`.
    """
    layout = Layout(output_layout)
    channels = padded_channels or task.output_shape[1]
    tensors: list[te.Tensor] = []
    constants: list[te.Tensor] = []
    for step in task.steps:
        if step.kind in te_kernels.epilogue.TENSOR:
            shape = layout.physical_shape(task.output_shape)
            tensors.append(te.placeholder(shape, "float32", name=f"tensor{len(tensors)}"))
        elif step.kind in te_kernels.epilogue.PER_CHANNEL:
            constants.append(te.placeholder((channels,), "float32", name=f"channel{len(constants)}"))
    tensor_readers = [lambda *i, t=t: t[layout.physical_index(*i)] for t in tensors]
    constant_readers = [lambda c, t=t: t[c] for t in constants]
    return tensors, constants, tensor_readers, constant_readers


def pad_channels(constants: list[np.ndarray], padded_channels: int) -> list[np.ndarray]:
    """Zero-pad per-channel constants to the length the kernel's blocked loops touch."""
    return [np.pad(np.asarray(c, np.float32), (0, padded_channels - len(c))) for c in constants]


#: Environment variable with further modules of variants (comma-separated), for kernels that live out of this tree.
EXTRA_MODULES = "GLOBALSEL_VARIANTS"


def extra_modules() -> tuple[str, ...]:
    """Modules of variants that live out of the tree."""
    return tuple(name.strip() for name in os.environ.get(EXTRA_MODULES, "").split(",") if name.strip())


@functools.cache
def all_variants() -> dict[str, type[Variant]]:
    """Every variant class by name, found by importing the modules of the subpackages.

    Modules and packages whose name starts with an underscore hold shared code and are skipped. Modules named in the
    environment variable ``GLOBALSEL_VARIANTS`` are searched too.
    """
    found: dict[str, type[Variant]] = {}
    names = list(extra_modules())
    for package in pkgutil.iter_modules(te_kernels.__path__, "te_kernels."):
        if package.ispkg:
            path = importlib.import_module(package.name).__path__
            names += [m.name for m in pkgutil.iter_modules(path, package.name + ".")]
    for name in names:
        if name.rsplit(".", 1)[-1].startswith("_"):
            continue
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Variant) and value.__module__ == module.__name__:
                if "name" not in vars(value):
                    continue  # an abstract base
                if value.name in found:
                    raise RuntimeError(f"two variants are called {value.name!r}: {module.__name__}")
                found[value.name] = value
    return dict(sorted(found.items()))


def variants_for(task: Task, machine: Machine | Gpu) -> list[type[Variant]]:
    """Variant classes that run tasks of this type on this kind of machine."""
    return [v for v in all_variants().values() if v.task_type is type(task) and machine.kind in v.kinds]


def from_knobs(name: str, knobs: dict[str, Any]) -> Variant:
    """Rebuild an instance from its log form; raises ValueError when the name or the knobs are unknown."""
    cls = all_variants().get(name)
    if cls is None:
        raise ValueError(f"unknown variant {name!r}")
    known = {f.name for f in dataclasses.fields(cls)}
    if set(knobs) != known or not all(isinstance(v, int | str | bool) for v in knobs.values()):
        raise ValueError(f"knobs {knobs} are not those of variant {name}: {sorted(known)}")
    return cls(**knobs)
