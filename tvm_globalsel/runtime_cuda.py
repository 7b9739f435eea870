"""The GPU side of TVM's runtime: loaded by itself, without the compiler."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_globalsel.environment import environment
from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime_library import load_library


class Cuda:
    """The first CUDA device, which must be of architecture ``arch``; :class:`UserError` where there is none."""

    def __init__(self, arch: str) -> None:
        with environment("TVM_USE_RUNTIME_LIB", "1"):  # processes started later may need the compiler
            import tvm
        self._tensor = tvm.runtime.tensor
        try:
            load_library("tvm_runtime_cuda")
            self._device = tvm.cuda(0)
            exists = bool(self._device.exist)
        except OSError as error:
            raise UserError(
                f"TVM's CUDA runtime cannot be loaded ({error})",
                "the module was compiled for a GPU: install NVIDIA's driver and the CUDA runtime library that it names",
            ) from error
        if not exists:
            raise UserError(f"no CUDA device was found; the module was compiled for {arch}", "run it on such a machine")
        version = str(self._device.compute_version)
        if arch.rstrip("af") != "sm_" + version.replace(".", ""):
            raise UserError(
                f"the module was compiled for {arch}; this device has compute capability {version}",
                f"compile it with --target for a device of capability {version}",
            )

    def tensor(self, array: np.ndarray) -> Any:
        """A copy on the device."""
        return self._tensor(array, self._device)

    def array(self, tensor: Any) -> np.ndarray:
        """A copy of one of TVM's tensors, from wherever it is."""
        return np.asarray(tensor.numpy())

    def sync(self) -> None:
        """Returns when all kernels have ended."""
        self._device.sync()

    @property
    def identities(self) -> list[tuple[int, int]]:
        """Type and number of the devices that a network on this one uses: the host as well."""
        return [(self._device.dlpack_device_type(), self._device.index), (1, 0)]
