"""The device that kernels run on, by kind, with TVM's runtime only."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import tvm

from tvm_globalsel.device import device_name
from tvm_globalsel.runtime_library import library_folder, load_library

#: The library that TVM's CUDA runtime needs.
CUDART = "libcudart.so.13"


def open_device(kind: str) -> tuple[Any, str]:
    """The device and its name, as logs identify it. Raises RuntimeError when there is none of this kind."""
    if kind == "cpu":
        return tvm.cpu(), device_name()
    try:  # TVM loads neither by itself
        if kind == "cuda":
            ctypes.CDLL(_cudart(library_folder()), ctypes.RTLD_GLOBAL)
        load_library(f"tvm_runtime_{kind}")
    except OSError as error:
        raise RuntimeError(f"TVM's runtime for {kind} cannot be loaded ({error})") from error
    device = tvm.device(kind)
    if not device.exist:
        raise RuntimeError(f"this machine has no {kind} device that TVM can use")
    return device, str(device.device_name)


def _cudart(libraries: Path) -> str:
    """CUDA's runtime library: the bundle's, the system's, or that of an installed PyTorch."""
    places = [libraries, Path("/usr/local/cuda/lib64")]
    places += [Path(entry) / "nvidia" for entry in sys.path if entry]
    for place in places:
        for found in sorted(place.glob(f"**/{CUDART}")):
            return str(found)
    return CUDART
