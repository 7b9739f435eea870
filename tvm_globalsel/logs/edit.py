"""Logs written anew: several merged into one, one without what no compilation looks for any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tvm_globalsel.errors import UserError
from tvm_globalsel.log_file import Reading, locked, read, read_file, replace
from tvm_globalsel.logs.records import KEEP, distinct, outdated
from tvm_globalsel.record import Record


@dataclass(frozen=True)
class Merged:
    """What a merge read and wrote: records in each file and the numbers of its lines that are none."""

    read: dict[Path, int]
    bad: dict[Path, list[int]]
    written: int


@dataclass(frozen=True)
class Pruned:
    """What pruning one log kept, and what it dropped for which reason."""

    path: Path
    kept: int
    dropped: dict[str, int]


def merge(paths: list[Path], output: Path, keep: str = "newest") -> Merged:
    """All records of ``paths`` into ``output``, one a key. A log that exists is extended only if it is among ``paths``.

    Raises :class:`UserError` when a log cannot be read or the output not be written.
    """
    if output.exists() and not any(path.exists() and path.samefile(output) for path in paths):
        raise UserError(f"{output}: exists", "name it among the logs to merge, or choose another output")
    others = {path: read_file(path) for path in paths if not (output.exists() and path.samefile(output))}
    readings = dict(others)

    def together(own: Reading | None) -> list[Record]:
        if own is not None:
            readings[output] = own
        return distinct((record for reading in readings.values() for record in reading.records), KEEP[keep])

    written = _rewrite(output, together)
    return Merged(
        {path: len(r.records) for path, r in readings.items()}, {p: r.bad for p, r in readings.items()}, written
    )


def prune(path: Path, errors: bool = False, device: str | None = None) -> Pruned:
    """Drop what no compilation looks for: old revisions, unknown variants, all but the newest of a key, damaged lines.

    With ``errors`` failed measurements too (they will be tried again), with ``device`` those of every other device.
    """
    dropped: Counter[str] = Counter()

    def reason(record: Record) -> str | None:
        if device is not None and record.origin.device != device:
            return "other device"
        return outdated(record) or ("failed" if errors and record.error is not None else None)

    def left(reading: Reading | None) -> list[Record]:
        assert reading is not None
        newest = distinct(reading.records)
        dropped["damaged line"] = len(reading.bad)
        dropped["repeated"] = len(reading.records) - len(newest)
        kept = []
        for record in newest:
            if (why := reason(record)) is not None:
                dropped[why] += 1
            else:
                kept.append(record)
        return kept

    if not path.is_file():
        raise UserError(f"{path}: no such tuning log", "give the path of a log")
    kept = _rewrite(path, left)
    return Pruned(path, kept, {why: number for why, number in dropped.items() if number})


def _rewrite(path: Path, change: Callable[[Reading | None], list[Record]]) -> int:
    """Replace a log by what ``change`` makes of it (None: there is none yet) while no tuner can append to it."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            records = change(None)
            replace(path, records)
            return len(records)
        with locked(path, "ab+") as file:
            file.seek(0)
            records = change(read(file, str(path)))
            replace(path, records)
            return len(records)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})", "choose a writable place") from error
