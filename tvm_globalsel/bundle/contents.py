"""An unpacked bundle: its manifest, and its kernels by task and variant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tvm

from te_kernels.task import Task
from te_kernels.variant import EXTRA_MODULES, Variant
from tvm_globalsel.bundle.archive import MANIFEST, parse_manifest
from tvm_globalsel.bundle.manifest import Manifest, from_json
from tvm_globalsel.errors import UserError


def open_bundle(folder: Path) -> Manifest:
    """The manifest of an unpacked bundle; raises :class:`UserError` when it is none."""
    try:
        body = parse_manifest((folder / MANIFEST).read_bytes())
        os.environ[EXTRA_MODULES] = ",".join(map(str, body.get("modules", ())))
        return from_json(body)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not an unpacked bundle ({error})", "pack it again") from error


class Functions:
    """The bundle's kernels as functions; libraries are loaded when first asked for."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._where = {
            (kernel.task.key, kernel.variant): (library.file, index)
            for library in manifest.libraries
            if library.file is not None
            for index, kernel in enumerate(library.kernels)
        }
        self._modules: dict[str, Any] = {}

    def of(self, task: Task, variant: Variant) -> Any:
        """The kernel; raises KeyError when the bundle has none."""
        file, index = self._where[task.key, variant]
        assert file is not None
        if file not in self._modules:
            self._modules[file] = tvm.runtime.load_module(str(self._folder / file))
        return self._modules[file][f"kernel{index}"]
