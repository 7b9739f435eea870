"""Build, profile inside of the network, solve again: until the plan stands."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.apart import answer_of
from tvm_globalsel.build import Built, build_apart
from tvm_globalsel.deploy import deploy
from tvm_globalsel.device import device_name
from tvm_globalsel.errors import UserError
from tvm_globalsel.inside import priced_inside
from tvm_globalsel.lowering import fit
from tvm_globalsel.options import Options, Say
from tvm_globalsel.problem import plan_cost
from tvm_globalsel.record import Record, inside_record
from tvm_globalsel.selected import Selected, solved

#: Profiles of every plan, in turns with those of the others: until the two fastest agree, within limits.
_LEAST_TURNS, _MOST_TURNS, _AGREEMENT = 2, 6, 1.03
#: Inferences of a profile: this many seconds of them, within limits.
_PROFILE_S, _FEWEST, _MOST = 0.5, 5, 40
_TIMEOUT_S = 600.0


def refuse_elsewhere(options: Options) -> None:
    """Raises :class:`UserError` where the network would not run on this machine's CPU."""
    here = options.target == "host" and options.rpc_tracker is None and options.device in (None, device_name())
    if options.refine and not here:
        raise UserError("--refine runs the network on this machine, for which it is not compiled", "leave it out")


def settle(
    selected: Selected, built: Built, rounds: int, tolerance: float, plan_of: Callable[[Selected], dict[str, Any]],
    say: Say,
) -> tuple[Selected, Built]:  # fmt: skip
    """The plan that stands when its kernels cost what they take inside of it; after ``rounds`` the last one.

    It stands when no other one is better by more than ``tolerance``, a part of its time.

    What is measured goes into the tuning log. All plans built so far are profiled in turns, so that what the machine
    does meanwhile hits all alike.
    """
    tried: list[tuple[Selected, Path]] = []
    with tempfile.TemporaryDirectory(prefix="globalsel-refine-") as scratch:
        for number in range(rounds):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            deploy(built, plan_of(selected), folder)
            tried.append((selected, folder))
            say(f"profiling inside of the network, round {number + 1} of at most {rounds}")
            _profile(tried)
            costs = priced_inside(selected.costs, selected.log, selected.context.origin)
            selection = solved(selected.network, costs, selected.demands, selected.solver)
            before, after = selected.selection.solution, selection.solution
            again = dataclasses.replace(selected, costs=costs, selection=selection)
            if np.array_equal(before.choice, after.choice):
                say(f"the plan stands, at {after.cost_s * 1e3:.3f} ms inside of the network")
                return again, built
            now_s = plan_cost(selection.problem, before.choice)
            say(f"{now_s * 1e3:.3f} ms inside of the network; building a plan of {after.cost_s * 1e3:.3f} ms")
            selected, lowered = fit(again)
            built = build_apart(lowered, selected.target)
            if now_s - after.cost_s <= tolerance * now_s:
                break
    return selected, built


def _profile(tried: list[tuple[Selected, Path]]) -> None:
    """Profile all plans in turns, and log what each kernel took where its network was least disturbed."""
    turns: list[list[dict[str, Any]]] = [[] for _ in tried]
    for number in range(_MOST_TURNS):
        for (selected, folder), profiles in zip(tried, turns, strict=True):
            profiles.append(_profiled(folder, selected.selection.solution.cost_s))
        if number + 1 >= _LEAST_TURNS and all(map(_confirmed, turns)):
            break
    seconds: dict[str, list[float]] = defaultdict(list)
    alone: dict[str, Record] = {}
    for (selected, _), profiles in zip(tried, turns, strict=True):
        records = _records(selected)
        for found in sorted(profiles, key=_total_s)[:2]:
            taken: dict[str, list[float]] = defaultdict(list)
            for step in found["steps"]:
                taken[step["kernel"]].append(step["measured_s"])
            for kernel, values in taken.items():
                alone[records[kernel].key] = records[kernel]
                seconds[records[kernel].key].append(statistics.fmean(values))
    selected = tried[-1][0]
    origin = selected.context.origin
    selected.log.append([inside_record(alone[key], origin, tuple(values)) for key, values in seconds.items()])


def _total_s(found: dict[str, Any]) -> float:
    return float(found["total_s"])


def _confirmed(profiles: list[dict[str, Any]]) -> bool:
    """Whether the fastest profile was no exception."""
    fastest, second = sorted(map(_total_s, profiles))[:2]
    return second <= _AGREEMENT * fastest


def _records(selected: Selected) -> dict[str, Record]:
    """What was measured alone of a plan's kernels, by their names in the module."""
    named = ((selected.kernel(task, measured.variant), measured.record) for task, measured in selected.kernels_run)
    return {name: record for name, record in named if name is not None and record is not None}


def _profiled(folder: Path, expected_s: float) -> dict[str, Any]:
    """One profile, by a process that loads no compiler."""
    repeat = max(_FEWEST, min(_MOST, int(_PROFILE_S / max(expected_s, 1e-6))))
    advice = "compile without --refine"
    return answer_of("profile", folder, "--repeat", repeat, timeout_s=_TIMEOUT_S, advice=advice)
