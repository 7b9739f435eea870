"""One tuner times at a time: two that share a log on one machine take turns instead of disturbing each other.

The lock is one of the operating system's, so it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class Turn:
    """The turn of all tuners of this machine on one log (without a log: a turn that is always free)."""

    def __init__(self, log: Path | None) -> None:
        self._path = None if log is None else _lock_file(log)
        self._file: BinaryIO | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn and hold it; inside of itself it does nothing."""
        if self._path is None or self._file is not None:
            yield
            return
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._file = file
            try:
                yield
            finally:
                self._file = None


def _lock_file(log: Path) -> Path | None:
    """In a folder of the user's own on this machine: the log itself may lie on a disk that several machines share."""
    folder = Path(tempfile.gettempdir()) / f"tvm-globalsel-locks-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return None
    except OSError:
        return None
    return folder / hashlib.sha256(str(log.resolve()).encode()).hexdigest()[:16]
