"""The artefacts of the phases, for people to read."""

from __future__ import annotations

from pathlib import Path

import tvm

from tvm_globalsel.deploy import writable_folder


class Dump:
    """Writes each phase's artefact into a folder, or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = writable_folder(folder) if folder is not None else None

    def text(self, name: str, text: str) -> None:
        """A text file."""
        if self._folder is not None:
            (self._folder / f"{name}.txt").write_text(text + "\n")

    def module(self, name: str, module: tvm.IRModule) -> None:
        """A module as TVMScript, constants omitted."""
        if self._folder is not None:
            (self._folder / f"{name}.py").write_text(module.script(show_meta=False))
