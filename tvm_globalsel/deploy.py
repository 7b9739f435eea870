"""The folder that is deployed: the library, the weights and the plan appear together or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tvm_globalsel.artefacts import LIBRARY, PLAN, WEIGHTS
from tvm_globalsel.build import Built, export
from tvm_globalsel.errors import UserError
from tvm_globalsel.runtime import fingerprint
from tvm_globalsel.weights import write_weights


def deploy(built: Built, plan: dict[str, Any], folder: Path) -> None:
    """Write ``model.so``, ``weights.bin`` and ``plan.json``; the folder changes only when all are complete."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        library = export(built, Path(temporary))
        record = write_weights(built.weights, Path(temporary) / WEIGHTS)
        plan = {**plan, "library": fingerprint(library), "weights": record}
        (Path(temporary) / PLAN).write_text(json.dumps(plan, indent=1, allow_nan=False) + "\n")
        for name in (LIBRARY, WEIGHTS, PLAN):
            os.replace(Path(temporary) / name, folder / name)


def writable_folder(folder: Path) -> Path:
    """The folder, made if need be; raises :class:`UserError` before any work is done when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write into the output folder ({error.strerror})", "choose another one with -o"
        ) from error
    return folder.resolve()
