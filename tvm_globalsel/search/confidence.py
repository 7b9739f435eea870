"""Near-ties that decide the plan: which measurements to repeat, and the records that result.

A measured cost is a median of a few blocks with an interval (``Record.interval_s``). A candidate could displace the
chosen one if both lie at the wrong ends of their intervals; what the network would then gain is the stake. Only
candidates with a stake worth a part of the plan are measured again, the chosen kernel and its rivals in turns in one
batch; all other ties may stand, because they change nothing. The plan's own kernels are measured a second time as well:
the least of many noisy costs is too low on average (the optimizer's curse; Smith & Winkler, Management Science 2006),
and a plan's predicted time is a sum of such costs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tvm_globalsel.log import Record, TuningLog
from tvm_globalsel.problem import Infeasible
from tvm_globalsel.search.space import Space

#: Part of the plan's time that must be at stake.
_STAKE = 0.0005
#: Blocks after which a record is not repeated any more; one measuring brings five.
_ENOUGH_BLOCKS = 10
#: Kernels of one batch run in turns.
_MOST_RIVALS = 7


def deciding_ties(space: Space, records: list[Record | None], most: int) -> list[int]:
    """Candidates to measure again, every chosen one followed by its rivals, the highest stakes first."""
    costs_s = _costs_s(records)
    try:
        plan, regret_s = space.best(costs_s), space.regrets(costs_s)
    except Infeasible:
        return []
    groups: list[tuple[float, list[int]]] = []
    for chosen in sorted(plan.used):
        own = records[chosen]
        if own is None:
            continue
        might_lose_s = own.interval_s[1] - own.cost_s
        stakes: list[tuple[float, int]] = []
        for rival in space.rivals(chosen):
            other = records[rival]
            if rival == chosen or other is None or other.error or min(_blocks(own), _blocks(other)) >= _ENOUGH_BLOCKS:
                continue
            # transforms are priced among themselves: what one loses to the best of its own task
            behind_s = regret_s[rival] if math.isfinite(regret_s[rival]) else other.cost_s - own.cost_s
            stake_s = might_lose_s + (other.cost_s - other.interval_s[0]) - behind_s
            if stake_s > _STAKE * plan.cost_s:
                stakes.append((stake_s, int(rival)))
        if stakes:
            stakes.sort(reverse=True)
            groups.append((stakes[0][0], [chosen, *(rival for _, rival in stakes[:_MOST_RIVALS])]))
    groups.sort(reverse=True)
    flat = list(dict.fromkeys(candidate for _, group in groups for candidate in group))
    return flat[:most]


def unsettled(space: Space, records: list[Record | None]) -> list[int]:
    """Kernels of the best plan that were measured only once: among many, luck is what a choice of the least picks."""
    try:
        plan = space.best(_costs_s(records))
    except Infeasible:
        return []
    chosen = ((candidate, records[candidate]) for candidate in sorted(plan.used))
    return [candidate for candidate, record in chosen if record and _blocks(record) < _ENOUGH_BLOCKS]


def _costs_s(records: list[Record | None]) -> np.ndarray:
    return np.array([record.cost_s if record else math.inf for record in records])


def _blocks(record: Record) -> int:
    return len(record.costs_s)


def add_pooled(log: TuningLog, fresh: list[Record]) -> None:
    """Log what was measured, together with what the log knew of the same kernels."""
    log.append([pooled(old, new) if (old := log.get(new.key)) is not None else new for new in fresh])


def pooled(old: Record, new: Record) -> Record:
    """Both measurements as one: the median and its interval are those of all blocks. A new failure counts."""
    if new.error or old.error:
        return new
    return dataclasses.replace(new, costs_s=(*old.costs_s, *new.costs_s))
