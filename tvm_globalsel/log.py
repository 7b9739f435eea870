"""The tuning log: records by key in an append-only file of JSON lines that several tuners may share."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tvm_globalsel.errors import UserError
from tvm_globalsel.log_file import damage, locked, read
from tvm_globalsel.record import Context, Origin, Record, key_at, machine_record, make_record, median_interval
from tvm_globalsel.revision import variant_revision

__all__ = [
    "Context", "Origin", "Record", "TuningLog", "machine_record", "make_record", "median_interval", "variant_revision",
]  # fmt: skip


class TuningLog:
    """Records by key, backed by a file (or by memory only, without a path). Later lines win.

    Several tuners may share the file: lines are appended whole and under a lock, :meth:`refresh` reads what the
    others have added. Records of another origin (machine, target, thread count, TVM) are not found unless
    :meth:`trust` was called.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._records: dict[str, Record] = {}
        self._trusted: dict[str, Record] = {}
        self._inode, self._offset, self._line = 0, 0, 0
        if path is None:
            return
        if path.is_dir():
            raise UserError(f"{path}: is a folder", "give the path of a tuning log file")
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            except OSError as error:
                raise UserError(
                    f"{path}: cannot create the tuning log ({error.strerror})",
                    "choose a writable place with --tuning-log",
                ) from error
        self.refresh()

    def get(self, key: str) -> Record | None:
        """The newest record with this key; else, where others are trusted, the one that comes nearest to it."""
        return self._records.get(key) or self._trusted.get(key)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        """All records, in the order of their first appearance."""
        return iter(list(self._records.values()))

    def append(self, records: Iterable[Record]) -> None:
        """Add records and write them at once: whole lines under a lock, so two tuners may share a file."""
        records = list(records)
        if self.path is not None and records:
            text = "".join(record.to_json() + "\n" for record in records).encode()
            try:
                with locked(self.path, "ab+") as file:
                    self._read_new(file)
                    size = file.seek(0, os.SEEK_END)
                    if size:  # a writer that was killed may have left half a line
                        file.seek(size - 1)
                        if file.read(1) != b"\n":
                            text = b"\n" + text
                    file.write(text)
                    file.flush()
                    self._offset, self._line = size + len(text), self._line + text.count(b"\n")
            except OSError as error:
                raise UserError(
                    f"{self.path}: cannot write the tuning log ({error.strerror})",
                    "choose a writable place with --tuning-log",
                ) from error
        for record in records:
            self._records[record.key] = record

    def refresh(self) -> None:
        """Read what others have appended since."""
        if self.path is None:
            return
        try:
            with locked(self.path, "rb") as file:
                self._read_new(file)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot read the tuning log ({error.strerror})", "choose another file with --tuning-log"
            ) from error

    def origins(self) -> dict[Origin, int]:
        """How many records come from where, the most frequent origin first."""
        return dict(Counter(record.origin for record in self._records.values()).most_common())

    def trust(self, mine: Origin) -> int:
        """From now on answer with records of other origins too where there is none of ``mine``; how many there are.

        Where several could answer, the one whose origin has most in common with ``mine`` does.
        """
        ranked = sorted(
            (record for record in self._records.values() if record.origin != mine),
            key=lambda r: (_in_common(r.origin, mine), r.time),
        )
        self._trusted = {key_at(record, mine): record for record in ranked}
        return len(self._trusted)

    def _read_new(self, file: BinaryIO) -> None:
        """Records from where the last reading ended; from the start when the file is another or was cut."""
        status = os.fstat(file.fileno())
        if status.st_ino != self._inode or status.st_size < self._offset:
            self._inode, self._offset, self._line = status.st_ino, 0, 0
        file.seek(self._offset)
        reading = read(file, str(self.path), self._line)
        self._offset, self._line = file.tell(), self._line + reading.lines
        self._records |= {record.key: record for record in reading.records}
        if reading.bad:
            used = f"the other {len(self._records)} records are used"
            warnings.warn(f"{damage(str(self.path), reading.bad)}; {used}", stacklevel=4)


def _in_common(origin: Origin, mine: Origin) -> tuple[bool, bool, bool, bool]:
    return (
        origin.device == mine.device,
        origin.target == mine.target,
        origin.threads == mine.threads,
        origin.tvm == mine.tvm,
    )
