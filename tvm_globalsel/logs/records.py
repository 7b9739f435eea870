"""Sets of records: which still describe the code there is, which of two is the better one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from te_kernels.task import from_dict
from te_kernels.variant import all_variants, from_knobs
from tvm_globalsel.record import Origin, Record
from tvm_globalsel.revision import variant_revision


def outdated(record: Record) -> str | None:
    """Why no compilation looks for this record any more, or None when it is current."""
    if record.task.get("kind") == "machine":  # a rate of the machine itself, which no code but the probe decides
        return None
    if record.variant not in all_variants():
        return "unknown variant"
    if record.revision != variant_revision(record.variant):
        return "old revision"
    try:
        from_knobs(record.variant, record.knobs)
        from_dict(record.task)
    except ValueError:
        return "malformed"
    return None


def newest(record: Record) -> tuple[float, ...]:
    """Rank among records of one key: the later one wins, as in a log that is read."""
    return (record.time,)


def precise(record: Record) -> tuple[float, ...]:
    """Rank among records of one key: a measurement before a failure, then the smallest relative standard error."""
    if not math.isfinite(record.cost_s):
        return (0, 0.0, record.time)
    if len(record.costs_s) < 2 or record.cost_s == 0:
        return (1, -math.inf, record.time)
    error = statistics.stdev(record.costs_s) / math.sqrt(len(record.costs_s)) / record.cost_s
    return (1, -error, record.time)


#: What ``--keep`` may say.
KEEP: dict[str, Callable[[Record], tuple[float, ...]]] = {"newest": newest, "precise": precise}


def distinct(records: Iterable[Record], rank: Callable[[Record], tuple[float, ...]] = newest) -> list[Record]:
    """One record a key: the one that ranks highest, of equals the last; oldest first."""
    best: dict[str, Record] = {}
    for record in records:
        other = best.get(record.key)
        if other is None or rank(record) >= rank(other):
            best[record.key] = record
    return sorted(best.values(), key=lambda r: r.time)


@dataclass(frozen=True)
class Count:
    """Records of one origin: how many there are, failed, would be found by a compilation; of how many variants."""

    origin: Origin
    records: int
    errors: int
    current: int
    variants: int
    tasks: int


def count(records: Iterable[Record]) -> list[Count]:
    """Counts by origin, the largest first; of several records of one key the newest."""
    groups: dict[Origin, list[Record]] = {}
    for record in distinct(records):
        groups.setdefault(record.origin, []).append(record)
    counts = [
        Count(
            origin, len(group), sum(r.error is not None for r in group), sum(outdated(r) is None for r in group),
            len({r.variant for r in group}), len({str(r.task) for r in group}),
        )
        for origin, group in groups.items()
    ]  # fmt: skip
    return sorted(counts, key=lambda c: -c.records)
