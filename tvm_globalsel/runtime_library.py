"""Libraries of TVM's runtime, loaded by themselves: the first without the package, and those of devices at all."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

from tvm_globalsel.errors import UserError


def library_folder() -> Path:
    """Where TVM's libraries lie. The package is not imported for that."""
    spec = importlib.util.find_spec("tvm")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("TVM's runtime is not installed", "pip install apache-tvm")
    return Path(spec.submodule_search_locations[0]) / "lib"


def load_library(name: str) -> None:
    """Load ``tvm_runtime`` or ``tvm_runtime_<kind>`` for all libraries that follow; raises OSError when that fails."""
    ctypes.CDLL(str(library_folder() / f"lib{name}.so"), ctypes.RTLD_GLOBAL)
