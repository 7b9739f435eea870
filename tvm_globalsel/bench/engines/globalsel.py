"""Our own deployed folder, through the runtime alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tvm_globalsel.runtime import Deployed

MODULES = ("tvm_ffi", "tvm_globalsel.runtime")


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
        return self._deployed.arrays(self._call())
