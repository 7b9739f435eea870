"""Files of records: locked against other writers, read line by line within limits, replaced as a whole."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tvm_globalsel.errors import UserError
from tvm_globalsel.record import Record, parse

_MAX_LINE_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 30


@contextmanager
def locked(path: Path, mode: str) -> Iterator[BinaryIO]:
    """The open file under a lock: a shared one for reading (mode ``rb``), else an exclusive one. May raise OSError."""
    while True:
        with open(path, mode) as opened:
            file: BinaryIO = opened  # type: ignore[assignment]
            fcntl.flock(file, fcntl.LOCK_SH if mode == "rb" else fcntl.LOCK_EX)
            # whoever held the lock may have replaced the file meanwhile: what is written into the old one is lost
            if not os.path.exists(path) or os.fstat(file.fileno()).st_ino != os.stat(path).st_ino:
                continue
            yield file
            return


@dataclass(frozen=True)
class Reading:
    """What was read: the records in order, the numbers of the lines that are none, how many lines there were."""

    records: list[Record]
    bad: list[int]
    lines: int


def read(file: BinaryIO, name: str, lines_before: int = 0) -> Reading:
    """The records from where the file stands to its end, after ``lines_before`` lines.

    Raises :class:`UserError` for a file too large to be a log. A line beyond the limit is passed over, never held.
    """
    if os.fstat(file.fileno()).st_size > _MAX_FILE_BYTES:
        raise UserError(f"{name}: larger than {_MAX_FILE_BYTES >> 30} GiB, which no tuning log is", "give another file")
    records: list[Record] = []
    bad: list[int] = []
    number = lines_before
    while line := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        record = parse(line) if len(line) <= _MAX_LINE_BYTES else None
        while len(line) > _MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(_MAX_LINE_BYTES + 1)
        if record is not None:
            records.append(record)
        elif line.strip():
            bad.append(number)
    return Reading(records, bad, number - lines_before)


def read_file(path: Path) -> Reading:
    """All records of a log; raises :class:`UserError` when it cannot be read."""
    try:
        with locked(path, "rb") as file:
            return read(file, str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot read the tuning log ({error.strerror})", "give the path of a log") from error


def damage(name: str, lines: list[int]) -> str:
    """What to say about lines that are not records."""
    shown = ", ".join(str(n) for n in lines[:5]) + (", ..." if len(lines) > 5 else "")
    return f"{name}: {len(lines)} line(s) are not tuning records and were skipped (line {shown})"


def replace(path: Path, records: Iterable[Record]) -> None:
    """Write the file anew: a reader sees the old one or the new one, whole; a crash leaves one of the two."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w") as file:
            file.writelines(record.to_json() + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
        mode = os.stat(path).st_mode & 0o777 if path.exists() else 0o644
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
