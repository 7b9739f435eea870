"""The CPU side of TVM's runtime, by way of ``tvm_ffi`` alone.

Importing the ``tvm`` package brings the Python side of the compiler along, whatever library is loaded: 35 MB of
resident memory and 0.2 s for which a deployed network has no use.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime_library import load_library


class Cpu:
    """The host as a device of TVM's runtime; its library is loaded, without the compiler's."""

    def __init__(self) -> None:
        import tvm_ffi

        try:
            load_library("tvm_runtime")
        except OSError as error:
            raise UserError(f"TVM's runtime cannot be loaded ({error})", "install apache-tvm again") from error
        self._device = tvm_ffi.device("cpu", 0)
        self._allocate = tvm_ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        self._shape, self._dtype = tvm_ffi.Shape, tvm_ffi.dtype

    def tensor(self, array: np.ndarray) -> Any:
        """A copy, aligned as kernels want it."""
        made = self._allocate(self._shape(array.shape), self._dtype(str(array.dtype)), self._device, None)
        np.from_dlpack(made)[...] = array
        return made

    def array(self, tensor: Any) -> np.ndarray:
        """A copy of one of TVM's tensors."""
        return np.array(np.from_dlpack(tensor))

    def sync(self) -> None:
        """Kernels have ended when their call returns."""

    @property
    def identities(self) -> list[tuple[int, int]]:
        """Type and number of the devices that a network on this one uses."""
        return [(self._device.dlpack_device_type(), self._device.index)]
