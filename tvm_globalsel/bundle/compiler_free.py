"""Import the kernels' modules where TVM has no compiler, and the oracles where there is no scipy.

A variant's ``pack`` and ``layouts`` are numpy and run on the target; its schedule is built at packing time and never
called there. But one file holds both, and some of the names that schedules use cannot be imported by TVM's runtime
alone. Those modules are replaced by placeholders that let the import pass.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np

#: Modules of TVM that need the compiler library when they are imported.
COMPILER_ONLY = ("tvm.tirx.script", "tvm.relax", "tvm.s_tir.tensor_intrin", "tvm.s_tir.dlight", "tvm.topi")


class _Placeholder(types.ModuleType):
    """Stands for any name of a module that is absent: attributes, calls and decorators give placeholders again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        absent = any(name == known or name.startswith(f"{known}.") for known in COMPILER_ONLY)
        return ModuleSpec(name, self, is_package=True) if absent else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def prepare_imports() -> None:
    """Call before the kernels are imported; does nothing where TVM has its compiler."""
    import tvm  # with the modules that it needs itself: placeholders are for the kernels'

    if tvm.base._RUNTIME_ONLY and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if importlib.util.find_spec("scipy") is None:
        special = types.ModuleType("scipy.special")
        special.erf = np.vectorize(math.erf, otypes=[np.float64])  # type: ignore[attr-defined]
        sys.modules |= {"scipy": types.ModuleType("scipy"), "scipy.special": special}
