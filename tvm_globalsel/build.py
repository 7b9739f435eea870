"""Compile the rewritten module and export it as one shared library."""

from __future__ import annotations

import shutil
from pathlib import Path

import tvm
from tvm import relax

from tvm_globalsel import build_cuda
from tvm_globalsel.errors import UserError
from tvm_globalsel.memory_plan import planning

LIBRARY = "model.so"


def vm_pipeline() -> tvm.transform.Pass:
    """What lies between scheduled kernels and the VM: memory planning and calling convention.

    TVM's default pipeline would also legalise and fuse, of which nothing is left to do, and its search for reshapes
    among the kernels refuses kernels written in plain TIR.
    """
    return tvm.transform.Sequential(
        [
            planning(),
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )


def build(module: tvm.IRModule, target: tvm.target.Target) -> relax.VMExecutable:
    """Relax executable of a module whose operators are scheduled kernels and views only."""
    if target.kind.name == "cuda":
        return build_cuda.build(module, target)
    return tvm.compile(module, target=target, relax_pipeline=vm_pipeline())


def export(executable: relax.VMExecutable, folder: Path) -> Path:
    """Write ``model.so`` into an existing folder."""
    if not any(shutil.which(name) for name in ("g++", "gcc", "cc", "clang")):
        raise UserError("no C compiler was found, which TVM needs to link the exported library", "install gcc or clang")
    path = folder / LIBRARY
    executable.export_library(str(path))
    return path
