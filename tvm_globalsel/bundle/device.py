"""The device that kernels run on, by kind, with TVM's runtime only."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import tvm

from tvm_globalsel.machine_name import device_name


def open_device(kind: str) -> tuple[Any, str]:
    """The device and its name, as logs identify it. Raises RuntimeError when there is none of this kind."""
    if kind == "cpu":
        return tvm.cpu(), device_name()
    library = Path(tvm.__file__).parent / "lib" / f"libtvm_runtime_{kind}.so"
    if library.exists():  # TVM does not load it by itself
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    device = tvm.device(kind)
    if not device.exist:
        raise RuntimeError(f"this machine has no {kind} device that TVM can use")
    return device, str(device.device_name)
