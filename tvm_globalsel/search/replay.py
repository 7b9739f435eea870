"""A complete log played back as if it were measured now: what a search would find, and how long it would take."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable

from te_kernels.task import Task
from te_kernels.variant import Variant
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.log import Context, Record, TuningLog, make_record
from tvm_globalsel.measure import Request, Tuning
from tvm_globalsel.record import ALONE

#: What a round costs beside its kernels: processes of the builder wait for the last one.
ROUND_S = 0.5
#: A pause longer than this between two lines of a log was not spent on measuring.
_PAUSE_S = 120.0


class Replay:
    """The records of a log by task, variant and knobs, each with the seconds that it took to measure.

    The seconds are the log's own: lines written together share the time since the lines before. Revisions of the
    kernels' code are ignored, so that an old log still serves; costs are only compared within one log.
    """

    def __init__(self, full: Iterable[Record], log: TuningLog, context: Context) -> None:
        alone = (r for r in full if Context(**r.context).place == ALONE)
        self._records = {self._name(r.task, r.variant, r.knobs, r.context): r for r in alone}
        self._log, self._context = log, context
        self._seconds = measuring_seconds(self._records.values())
        self.seconds = 0.0

    @staticmethod
    def _name(task: dict[str, object], variant: str, knobs: dict[str, object], context: dict[str, object]) -> str:
        return json.dumps([task, variant, knobs, context["threads"], context["weights"]], sort_keys=True)

    def record(self, task: Task, variant: Variant) -> Record | None:
        """What the full log knows."""
        context = dataclasses.asdict(self._context.of(task))
        return self._records.get(self._name(task.to_dict(), variant.name, variant.knobs, context))

    def only_known(self, candidates: Candidates) -> Candidates:
        """Those of a task's candidates that can be replayed."""
        task = candidates.task
        kept = tuple(v for v in candidates.variants if v.needs_no_kernel or self.record(task, v) is not None)
        return dataclasses.replace(candidates, variants=kept)

    def cost_of(self, requests: list[Request]) -> float:
        """Seconds to measure these in one round."""
        records = [self.record(r.task, r.variant) for r in requests]
        return ROUND_S + sum(self._seconds[id(record)] for record in records if record is not None)

    def measure(self, requests: list[Request], required: bool = False) -> Tuning:
        """Copy the requests' records into the log of the search, and let the time pass."""
        taken = self.cost_of(requests)
        self.seconds += taken
        copies = []
        for request in requests:
            record = self.record(request.task, request.variant)
            if record is None:
                raise ValueError(f"{request} is not in the log that is replayed")
            result = {"costs_s": record.costs_s, "relative_error": record.relative_error, "error": record.error}
            copies.append(make_record(self._context, request.task, request.variant, **result))
        self._log.append(copies)
        return Tuning(len(copies), 0, sum(c.error is not None for c in copies), 0, taken)


def measuring_seconds(records: Iterable[Record]) -> dict[int, float]:
    """Seconds that each record (by ``id``) took, from the times at which a log's lines were written."""
    groups: dict[float, list[Record]] = {}
    for record in sorted(records, key=lambda r: r.time):
        groups.setdefault(round(record.time, 1), []).append(record)
    shares: dict[int, float] = {}
    unknown: list[Record] = []
    before = None
    for when, group in groups.items():
        if before is None or when - before > _PAUSE_S:
            unknown += group
        else:
            shares.update({id(record): (when - before) / len(group) for record in group})
        before = when
    usual = statistics.median(shares.values()) if shares else 0.0
    return {**shares, **{id(record): usual for record in unknown}}
