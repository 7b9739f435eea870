"""The GPU side of TVM's runtime: loaded by itself, without the compiler."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from tvm_globalsel.errors import UserError


def open_device(tvm: Any, arch: str) -> Any:
    """The first CUDA device, with TVM's CUDA runtime library loaded; :class:`UserError` where there is none.

    ``tvm`` is the imported package; its runtime loads no device library by itself.
    """
    library = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        device = tvm.cuda(0)
        exists = bool(device.exist)
    except OSError as error:
        raise UserError(
            f"TVM's CUDA runtime cannot be loaded ({error})",
            "the module was compiled for a GPU: install NVIDIA's driver and the CUDA runtime library that it names",
        ) from error
    if not exists:
        raise UserError(f"no CUDA device was found; the module was compiled for {arch}", "run it on such a machine")
    version = str(device.compute_version)
    if arch.rstrip("af") != "sm_" + version.replace(".", ""):
        raise UserError(
            f"the module was compiled for {arch}; this device has compute capability {version}",
            f"compile it with --target for a device of capability {version}",
        )
    return device
