"""What one measurement is: its task and variant, where and with what it was made, and its outcome; as one JSON line."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from te_kernels.task import Task
from te_kernels.variant import Variant
from tvm_globalsel.revision import variant_revision

_FORMAT = 1
ALONE, INSIDE = "alone", "network"
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Origin:
    """Where and with what measurements were made. Those of another origin count only when they are trusted."""

    target: str
    device: str
    threads: int
    tvm: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + ("s" if self.threads != 1 else "")
        return printable(f"{self.device} ({self.target}), {threads}, TVM {self.tvm}")


@dataclass(frozen=True)
class Context:
    """What a measurement depends on beside task and variant: target, device, thread count, version, where weights lie.

    ``target`` is what :func:`tvm_globalsel.device.target_identity` gives. ``weights`` is ``"cache"`` when the whole
    network's weights stay in the last-level cache from one inference to the next, else ``"memory"``: then every
    kernel streams its weights from DRAM, which favours compact ones. ``place`` is :data:`ALONE`, in a batch of kernels
    in turns, or :data:`INSIDE` of a network.
    """

    target: str
    device: str
    threads: int
    tvm: str
    weights: str = "cache"
    place: str = ALONE

    def to_dict(self) -> dict[str, Any]:
        """For a log, in which records of kernels alone say nothing of their place."""
        return {name: value for name, value in vars(self).items() if (name, value) != ("place", ALONE)}

    def of(self, task: Task) -> Context:
        """The context that matters for a task: without weights it is all the same where they lie."""
        return self if task.param_shapes else dataclasses.replace(self, weights="cache")

    def key(self, task: Task, variant: Variant) -> str:
        """Identity of one measurement."""
        return _key(task.to_dict(), variant.name, variant.knobs, self.of(task), variant_revision(variant.name))

    @property
    def origin(self) -> Origin:
        """The part that tells one machine from another."""
        return Origin(self.target, self.device, self.threads, self.tvm)


@dataclass(frozen=True)
class Record:
    """One measurement, or one failure with its error. ``costs_s`` are the block means in the order measured."""

    key: str
    task: dict[str, Any]
    variant: str
    knobs: dict[str, Any]
    costs_s: tuple[float, ...] = ()
    relative_error: float | None = None
    error: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0

    @property
    def cost_s(self) -> float:
        """Median cost; infinite for a failed measurement."""
        if self.error or not self.costs_s:
            return math.inf
        return statistics.median(self.costs_s)

    @property
    def interval_s(self) -> tuple[float, float]:
        """Interval that holds the true median with at least 90 % where there are 5 blocks or more."""
        return (math.inf, math.inf) if self.error or not self.costs_s else median_interval(self.costs_s)

    @property
    def revision(self) -> str:
        """Version of the variant's code that was measured."""
        return str(json.loads(self.key)["revision"])

    @property
    def origin(self) -> Origin:
        """Where it was measured."""
        return Context(**self.context).origin

    def to_json(self) -> str:
        """One line."""
        body = {"v": _FORMAT, **{name: value for name, value in vars(self).items() if name != "key"}}
        if math.isfinite(self.cost_s):
            body["interval_s"] = self.interval_s
        body["revision"] = self.revision
        return json.dumps(body, separators=(",", ":"), allow_nan=False)


def median_interval(values: tuple[float, ...], confidence: float = 0.9) -> tuple[float, float]:
    """Order statistics that enclose the median with ``confidence`` whatever the distribution (the sign test's).

    The narrowest symmetric pair; with fewer values than that takes (5 for 90 %), their whole range.
    """
    ordered, count = sorted(values), len(values)
    outside, cut = 0.0, 0
    while cut < (count - 1) // 2:
        outside += 2 * math.comb(count, cut) / 2**count  # the median is beyond the value number ``cut``
        if outside > 1 - confidence:
            break
        cut += 1
    cut = max(0, cut - 1)
    return ordered[cut], ordered[count - 1 - cut]


def make_record(context: Context, task: Task, variant: Variant, **result: Any) -> Record:
    """A record of ``variant`` on ``task`` now."""
    return Record(
        key=context.key(task, variant), task=task.to_dict(), variant=variant.name, knobs=variant.knobs,
        context=context.of(task).to_dict(), time=round(time.time(), 3), **result,
    )  # fmt: skip


def machine_record(context: Context, probe: str, unit: str, revision: str, costs_s: tuple[float, ...]) -> Record:
    """A record of the machine itself: seconds that one ``unit`` (flop, byte) of the resource ``probe`` takes."""
    task, context = {"kind": "machine", "unit": unit}, dataclasses.replace(context, weights="cache")
    return Record(
        key=_key(task, probe, {}, context, revision), task=task, variant=probe, knobs={}, costs_s=costs_s,
        context=context.to_dict(), time=round(time.time(), 3),
    )  # fmt: skip


def _key(task: dict[str, Any], variant: str, knobs: dict[str, Any], context: Context, revision: str) -> str:
    return json.dumps(
        {"task": task, "variant": variant, "knobs": knobs, "revision": revision, **context.to_dict()},
        separators=(",", ":"), sort_keys=True,
    )  # fmt: skip


def key_at(record: Record, origin: Origin, place: str | None = None) -> str:
    """The key that ``record`` would have, had it been measured at ``origin`` (and in another ``place``)."""
    context = _moved(record, origin, place)
    return _key(record.task, record.variant, record.knobs, context, record.revision)


def inside_record(alone: Record, origin: Origin, costs_s: tuple[float, ...]) -> Record:
    """What the kernel of ``alone`` took inside of a network, at ``origin``, now."""
    return dataclasses.replace(
        alone, key=key_at(alone, origin, INSIDE), costs_s=costs_s, context=_moved(alone, origin, INSIDE).to_dict(),
        time=round(time.time(), 3),
    )  # fmt: skip


def _moved(record: Record, origin: Origin, place: str | None) -> Context:
    context = Context(**record.context)
    return dataclasses.replace(context, **vars(origin), place=place or context.place)


def parse(line: bytes) -> Record | None:
    """A record from a line of an untrusted file, or None when it is not one."""
    if len(line) > _MAX_LINE_BYTES:
        return None
    try:
        body = json.loads(line)
        if body["v"] != _FORMAT:
            return None
        context = Context(**body["context"])
        if context.place not in (ALONE, INSIDE):
            return None
        if any(type(getattr(context, f.name)).__name__ != f.type for f in dataclasses.fields(Context)):
            return None
        costs = tuple(float(c) for c in body["costs_s"])
        task, variant, knobs = dict(body["task"]), str(body["variant"]), dict(body["knobs"])
        error, relative, when = body.get("error"), body.get("relative_error"), float(body.get("time", 0.0))
        relative = None if relative is None else float(relative)
        if not all(math.isfinite(number) and number >= 0 for number in (*costs, relative or 0.0, when)):
            return None
        return Record(
            key=_key(task, variant, knobs, context, str(body["revision"])),
            task=task, variant=variant, knobs=knobs, costs_s=costs, relative_error=relative,
            error=None if error is None else str(error), context=context.to_dict(), time=when,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return None


def printable(text: str) -> str:
    """Text from a log, for a terminal: control characters could move its cursor or change its title."""
    return "".join(c if c.isprintable() else "?" for c in text)
