"""Our own deployed folder, through the runtime alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tvm_globalsel.runtime import Deployed

MODULES = ("tvm", "tvm_globalsel.runtime")
ENVIRONMENT = {"TVM_USE_RUNTIME_LIB": "1"}  # or else importing TVM loads the compiler


def prepare(model: Path, folder: Path, threads: int) -> None:
    """Compiled by the benchmark itself."""


class Session:
    """The folder that ``globalsel compile`` wrote."""

    def __init__(self, model: Path, folder: Path, threads: int) -> None:
        from tvm_globalsel.runtime import Deployed

        self._deployed: Deployed = Deployed(folder, threads)

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self._call = self._deployed.bound(inputs)

    def run(self) -> list[np.ndarray]:
        return [np.asarray(result.numpy()) for result in self._call()]
