"""The bundle file: a zip archive that Python runs. Standard library only, because it reads itself on the target.

What comes out of an archive is data from elsewhere: names may not leave the folder they are unpacked into, links are
not made, and sizes are bounded. (A bundle's *content* is code all the same, and running it means trusting its maker.)
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any

from tvm_globalsel.errors import UserError

MANIFEST = "manifest.json"
_FORMAT = 1
_MAX_MEMBERS = 50_000
_MAX_UNPACKED_BYTES = 4 << 30
_MAX_MANIFEST_BYTES = 256 << 20
_NAME = re.compile(r"[\w+. -]+(/[\w+. -]+)*", re.ASCII)
_DAMAGE = (OSError, ValueError, zipfile.BadZipFile, zlib.error, LZMAError, NotImplementedError, EOFError, RuntimeError)


@contextmanager
def reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """The opened archive; whatever is wrong with it becomes a :class:`UserError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such bundle", "make one with 'globalsel pack-tuning'") from error
    except _DAMAGE as error:
        reason = str(error)[:150] or type(error).__name__
        raise UserError(f"{path}: not a readable bundle ({reason})", "copy it again, or pack it again") from error


def read_manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The manifest's JSON; raises ValueError when there is none of this version."""
    try:
        member = archive.getinfo(MANIFEST)
    except KeyError:
        raise ValueError("it has no manifest") from None
    if member.file_size > _MAX_MANIFEST_BYTES:
        raise ValueError("its manifest is too large")
    return parse_manifest(archive.read(member))


def parse_manifest(text: bytes) -> dict[str, Any]:
    """The manifest's JSON; raises ValueError when it is not of this version."""
    try:
        body = json.loads(text)
    except RecursionError:
        raise ValueError("its manifest is nested too deeply") from None
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        raise ValueError("its manifest is not of this version")
    return body


def unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write every member below ``folder`` as a plain file.

    Raises ValueError, before anything is written, when a name would leave the folder or the whole is too large.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > _MAX_UNPACKED_BYTES:
        raise ValueError("it would unpack to more than any bundle")
    for member in members:
        if not _is_inside(member.filename):
            raise ValueError(f"its member {member.filename[:80]!r} would be written outside of the folder")
    for member in members:
        path = folder / member.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


def _is_inside(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and ".." not in PurePosixPath(name).parts


class BundleWriter:
    """Writes a bundle; :attr:`size_bytes` is what it would occupy if it were closed now (but for the directory)."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w")
        self.size_bytes = 0

    def add(self, name: str, data: bytes) -> None:
        """Add a member, deflated: Python's zip importer reads nothing else, and it is ten times as fast as LZMA."""
        self._add(name, data, zipfile.ZIP_DEFLATED)

    def add_kernels(self, name: str, data: bytes) -> None:
        """Add a member, packed by LZMA: a quarter smaller for machine code."""
        self._add(name, data, zipfile.ZIP_LZMA)

    def _add(self, name: str, data: bytes, method: int) -> None:
        if not _is_inside(name):
            raise ValueError(f"{name!r} is no name for a member")
        member = zipfile.ZipInfo(name)  # without the time of day: the same kernels make the same file
        member.compress_type = method
        self._zip.writestr(member, data)
        self.size_bytes += self._zip.getinfo(name).compress_size + 2 * (64 + len(name))  # and its two headers

    def close(self, manifest: dict[str, Any]) -> None:
        """Add the manifest and finish."""
        text = json.dumps({"format": _FORMAT, **manifest}, separators=(",", ":"), allow_nan=False)
        self.add(MANIFEST, text.encode())
        self._zip.close()
