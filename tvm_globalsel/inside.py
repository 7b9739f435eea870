"""What kernels take inside of the network, where a profile has told.

A kernel alone is timed in the state in which a network leaves the caches on average. What its own neighbours leave is
known once a plan that uses it was built and profiled: then its price is the time measured there. Other kernels are
priced by what they take alone, times the factor between both over all kernels of the kind that were seen in both places
(the machine of the moment is in it as well). A rival of one that was seen inside has to promise more than the noise:
among many that look alike, the one that is chosen was lucky when it was measured (Smith & Winkler, Management Science
2006).
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict

from tvm_globalsel.log import TuningLog
from tvm_globalsel.record import INSIDE, Origin, Record, key_at
from tvm_globalsel.selection import Costs, Measured

#: What a kernel that was never seen inside of a network is charged for that, beside one that was.
_UNSEEN = 1.03
#: Imagined kernels of each kind at the factor of all kinds.
_PRIOR = 3.0
#: Imagined part of the network at factor 1: a few kernels that the log has from other networks are no measure of it.
_PRIOR_SHARE = 0.1


def priced_inside(costs: Costs, log: TuningLog, origin: Origin) -> Costs:
    """The costs with what the log knows from inside of networks; the same if it knows nothing."""
    every = [m for found in costs.choices.values() for m in found] + list(costs.transforms.values())
    seen = {id(m): seconds for m in every if (seconds := _inside_s(m, log, origin)) is not None}
    if not seen:
        return costs
    network_s = sum(min(_alone_s(found), default=0.0) for found in costs.choices.values())
    pairs = [(m.record, seen[id(m)]) for m in every if m.record is not None and id(m) in seen]
    factors = _Factors(pairs, network_s)

    def priced(measured: Measured, rivals: tuple[Measured, ...]) -> Measured:
        record = measured.record
        if record is None:  # nothing runs, or nothing is known
            return measured
        unseen = _UNSEEN if any(id(rival) in seen for rival in rivals) else 1.0
        cost_s = seen.get(id(measured), record.cost_s * factors.of(record) * unseen)
        return dataclasses.replace(measured, cost_s=cost_s, inside=id(measured) in seen)

    return Costs(
        {key: tuple(priced(m, found) for m in found) for key, found in costs.choices.items()},
        {key: priced(m, (m,)) for key, m in costs.transforms.items()},
        costs.threads,
    )


def _alone_s(found: tuple[Measured, ...]) -> list[float]:
    return [m.record.cost_s for m in found if m.record is not None and m.record.cost_s < math.inf]


class _Factors:
    """Time inside over time alone, for each kind of task: short kernels that move data differ most."""

    def __init__(self, pairs: list[tuple[Record, float]], network_s: float) -> None:
        imagined_s = _PRIOR_SHARE * network_s
        self._overall = (sum(inside for _, inside in pairs) + imagined_s) / (
            sum(alone.cost_s for alone, _ in pairs) + imagined_s
        )
        groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for alone, inside in pairs:
            groups[alone.task["kind"]].append((alone.cost_s, inside))
        self._of_kind = {kind: self._shrunk(group) for kind, group in groups.items()}

    def _shrunk(self, group: list[tuple[float, float]]) -> float:
        alone, inside = (sum(column) for column in zip(*group, strict=True))
        imagined = _PRIOR * alone / len(group)
        return (inside + self._overall * imagined) / (alone + imagined)

    def of(self, record: Record) -> float:
        """Of the record's kind, or of all if none of its kind was seen."""
        return self._of_kind.get(record.task["kind"], self._overall)


def _inside_s(measured: Measured, log: TuningLog, origin: Origin) -> float | None:
    """Seconds inside of a network; None where it was never seen there, or fails alone.

    With trusted records of other machines: of this one, or of the one that timed the kernel alone. A faster one's
    would make its choices win.
    """
    if measured.record is None or not 0 < measured.record.cost_s < math.inf:
        return None
    record = log.get(key_at(measured.record, origin, INSIDE))
    if record is None or record.origin not in (origin, measured.record.origin):
        return None
    return record.cost_s if 0 < record.cost_s < math.inf else None
