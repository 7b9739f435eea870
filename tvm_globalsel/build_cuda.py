"""Compile a rewritten module for an NVIDIA GPU, with or without one: passes, nvcc, and a binary inside the library.

TVM's CUDA code generator hands its source to the CUDA runtime library, which calls back to have it compiled. Without
that library (it needs the driver's libcuda) the source itself would be embedded, and every start of the deployed
module would need NVRTC. So where there is no driver, an empty one stands in while the module is built: every entry
reports that there is no device, and none is called.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import tvm
import tvm_ffi
from tvm import relax

from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime_library import load_library
from tvm_globalsel.vm_passes import calling_convention, explicit_outputs

#: Everything that TVM's CUDA runtime library takes from the driver.
_DRIVER = (
    "cuDeviceGetName", "cuFuncSetAttribute", "cuGetErrorName", "cuGetErrorString", "cuLaunchKernelEx",
    "cuModuleGetFunction", "cuModuleLoadData", "cuModuleUnload", "cuTensorMapEncodeTiled",
)  # fmt: skip
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
#: Asynchronous copies; and shared memory stays typed as declared, which they require.
PASS_CONFIG = {"tirx.use_async_copy": True, "tirx.disable_storage_rewrite": True}
_GRAPHS = {"relax.backend.use_cuda_graph": True}
_COMPILE_TIMEOUT_S = 1800.0


def vm_pipeline() -> tvm.transform.Pass:
    """As for CPUs, and what can be is captured into one CUDA graph: at batch 1 launches cost as much as kernels."""
    return tvm.transform.Sequential(
        [
            explicit_outputs(),
            relax.transform.StaticPlanBlockMemory(),
            relax.transform.RewriteCUDAGraph(),
            calling_convention(),
        ]
    )


def build(module: tvm.IRModule, target: tvm.target.Target) -> relax.VMExecutable:
    """Relax executable for a GPU. With nvcc at hand it holds binaries for the target, else CUDA source."""
    if has_nvcc():
        _load_runtime()
        _compile_by_nvcc(str(target.attrs["arch"]))
    with target, tvm.transform.PassContext(opt_level=3, config={**PASS_CONFIG, **_GRAPHS}):
        return tvm.compile(module, target=target, relax_pipeline=vm_pipeline())


def build_kernels(functions: dict[str, tvm.tirx.PrimFunc], target: tvm.target.Target) -> tvm.runtime.Module:
    """A library of kernels by name, for measuring."""
    if has_nvcc():
        _load_runtime()
        _compile_by_nvcc(str(target.attrs["arch"]))
    named = {name: func.with_attr("global_symbol", name) for name, func in functions.items()}
    with target, tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        return tvm.tirx.build(tvm.IRModule(named), target=target)


def has_nvcc() -> bool:
    """Whether CUDA's compiler is on the path."""
    return shutil.which("nvcc") is not None


def has_runtime() -> bool:
    """Whether TVM's CUDA runtime library is loaded."""
    return tvm_ffi.get_global_func("ffi.Module.create.cuda", allow_missing=True) is not None


@functools.cache
def _load_runtime() -> None:
    """TVM's CUDA runtime library; where the machine has no driver, with an empty one in its place."""
    if has_runtime():
        return
    try:
        try:
            ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
        except OSError:
            _load_empty_driver()
        if (cudart := cuda_runtime()) is not None:
            ctypes.CDLL(str(cudart), ctypes.RTLD_GLOBAL)
        load_library("tvm_runtime_cuda")
    except OSError as error:
        raise UserError(
            f"libtvm_runtime_cuda.so: cannot be loaded ({error})",
            "install the CUDA toolkit whose version it names, or remove nvcc from the path to embed source instead",
        ) from error


def cuda_runtime() -> Path | None:
    """CUDA's runtime library beside nvcc."""
    nvcc = shutil.which("nvcc")
    roots = [Path(os.path.realpath(nvcc)).parent.parent] if nvcc else []
    roots += [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    roots += [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    for root in roots:
        for place in ("lib64", "lib", "targets/x86_64-linux/lib"):
            for found in sorted((root / place).glob("libcudart.so.*")):
                return found
    return None


def _load_empty_driver() -> None:
    """A libcuda whose every entry reports that there is no device."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise UserError("no C compiler was found, which building for CUDA needs", "install gcc or clang")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "driver.c", Path(folder) / "libcuda.so.1"
        source.write_text("".join(f"int {name}(void) {{ return {_NO_DEVICE}; }}\n" for name in _DRIVER))
        command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def _compile_by_nvcc(arch: str) -> None:
    """Let TVM's generator have its source compiled for ``arch`` and no other."""

    def compile_cuda(source: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path, binary = Path(folder) / "kernels.cu", Path(folder) / "kernels.fatbin"
            path.write_text(source)
            # no --use_fast_math: float32 here means correctly rounded products and sums
            number = arch.removeprefix("sm_")
            command = ["nvcc", "--fatbin", "-O3", "-gencode", f"arch=compute_{number},code=sm_{number}",
                       "--expt-relaxed-constexpr", "-o", str(binary), str(path)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S)
            if done.returncode:
                raise RuntimeError(f"nvcc failed: {done.stderr.strip()[-2000:]}")
            return binary.read_bytes()

    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compile_cuda, override=True)
