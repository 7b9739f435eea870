"""Compile the rewritten module and export it: a shared library, and the weights apart from it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax import vm_build

from tvm_globalsel import build_cuda
from tvm_globalsel.artefacts import LIBRARY
from tvm_globalsel.build_kernels import compile_kernels, write_objects
from tvm_globalsel.errors import UserError
from tvm_globalsel.memory_plan import planning
from tvm_globalsel.vm_passes import calling_convention
from tvm_globalsel.weights import DTYPES

#: Smaller constants stay in the library: each one taken out of it is an argument more to pass.
_LEAST_BYTES = 4096


def vm_pipeline() -> tvm.transform.Pass:
    """What lies between scheduled kernels and the VM: memory planning and calling convention."""
    return tvm.transform.Sequential([planning(), calling_convention()])


@dataclass(frozen=True)
class Built:
    """An executable whose ``main`` takes ``weights`` as further arguments behind the network's inputs.

    ``kernels`` are libraries to link with it.
    """

    executable: relax.VMExecutable
    weights: tuple[np.ndarray, ...]
    kernels: tuple[tvm.runtime.Module, ...] = ()


def build(module: tvm.IRModule, target: tvm.target.Target) -> relax.VMExecutable:
    """Relax executable of a module whose operators are scheduled kernels and views only; weights are inside."""
    if target.kind.name == "cuda":
        return build_cuda.build(module, target)
    return tvm.compile(module, target=target, relax_pipeline=vm_pipeline())


def build_apart(module: tvm.IRModule, target: tvm.target.Target) -> Built:
    """The same with the large constants of ``main`` taken out, for deployment.

    Not those of a CUDA module: a captured graph holds the addresses of its weights, which are constants there.
    """
    if target.kind.name == "cuda":
        return Built(build_cuda.build(module, target), ())
    outside = WeightsAsArguments()
    with target:
        ready = tvm.transform.Sequential([vm_pipeline(), outside])(module)
    builder = relax.ExecBuilder()
    functions = vm_build._vmcodegen(builder, ready).functions
    first, *others = compile_kernels(functions, target) or [None]  # a network of views has no kernels
    executable = relax.VMExecutable(vm_build._ffi_api.VMLink(builder, target, first, [], {}))
    return Built(executable, tuple(outside.weights), tuple(others))


@tvm.transform.module_pass(opt_level=0, name="WeightsAsArguments")
class WeightsAsArguments:
    """Large constants of ``main`` become its last arguments, in the order of ``weights``.

    To run behind VMShapeLower, which would check each argument's shape in every call; the runtime checks them once.
    """

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []

    def transform_module(self, mod: tvm.IRModule, ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """The module with the longer ``main``."""
        self.weights = []
        extractor = _ConstantsToVariables()
        main = extractor.visit_expr(mod["main"])
        self.weights += [np.from_dlpack(constant.value) for constant in extractor.constants]
        extractor.constants.clear()  # TVM never frees a mutator of Python's (a cycle through C++)
        longer = relax.Function(
            [*main.params, *extractor.variables], main.body, main.ret_ty, is_pure=main.is_pure, attrs=main.attrs
        )
        changed = tvm.IRModule(dict(mod.functions.items()), attrs=mod.attrs)
        changed[mod.get_global_var("main")] = longer
        return changed


@relax.expr_functor.mutator
class _ConstantsToVariables(relax.PyExprMutator):
    def __init__(self) -> None:
        super().__init__()
        self.constants: list[Any] = []
        self.variables: list[Any] = []

    def visit_generic_const_(self, constant: Any) -> Any:
        ty = constant.ty
        if not isinstance(ty, relax.TensorType) or str(constant.value.dtype) not in DTYPES:
            return constant
        if np.from_dlpack(constant.value).nbytes < _LEAST_BYTES:
            return constant
        for known, variable in zip(self.constants, self.variables, strict=True):
            if known.same_as(constant):
                return variable
        self.constants.append(constant)
        self.variables.append(relax.Var(f"weight{len(self.variables)}", ty))
        return self.variables[-1]


def export(built: Built, folder: Path) -> Path:
    """Write ``model.so`` into an existing folder."""
    if not any(shutil.which(name) for name in ("g++", "gcc", "cc", "clang")):
        raise UserError("no C compiler was found, which TVM needs to link the exported library", "install gcc or clang")
    path = folder / LIBRARY
    with tempfile.TemporaryDirectory(dir=folder) as objects:
        built.executable.export_library(str(path), addons=write_objects(built.kernels, Path(objects)))
    return path
