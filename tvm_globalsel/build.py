"""Compile the rewritten module and export it as one shared library."""

from __future__ import annotations

import shutil
from pathlib import Path

import tvm

from tvm_globalsel.errors import UserError

LIBRARY = "model.so"


def build(module: tvm.IRModule, target: tvm.target.Target) -> tvm.relax.VMExecutable:
    """Relax executable; every operator is a scheduled kernel already, so TVM has nothing left to fuse."""
    return tvm.compile(module, target=target)


def export(executable: tvm.relax.VMExecutable, folder: Path) -> Path:
    """Write ``model.so`` into an existing folder."""
    if shutil.which("g++") is None and shutil.which("gcc") is None and shutil.which("cc") is None:
        raise UserError("no C compiler was found, which TVM needs to link the exported library", "install gcc or clang")
    path = folder / LIBRARY
    executable.export_library(str(path))
    return path
