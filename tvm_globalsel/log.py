"""The tuning log: append-only JSON lines, one measurement each. A log is data: reading one executes nothing."""

from __future__ import annotations

import ast
import dataclasses
import fcntl
import functools
import hashlib
import importlib
import importlib.util
import json
import math
import os
import statistics
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from te_kernels.task import Task
from te_kernels.variant import Variant, all_variants
from tvm_globalsel.errors import UserError

_FORMAT = 1
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Context:
    """What a measurement depends on beside task and variant: device, thread count, versions, where weights lie.

    ``weights`` is ``"cache"`` when the whole network's weights stay in the last-level cache from one inference to the
    next, else ``"memory"``: then every kernel streams its weights from DRAM, which favours compact ones.
    """

    target: str
    device: str
    threads: int
    tvm: str
    weights: str = "cache"

    def of(self, task: Task) -> Context:
        """The context that matters for a task: without weights it is all the same where they lie."""
        return self if task.param_shapes else dataclasses.replace(self, weights="cache")

    def key(self, task: Task, variant: Variant) -> str:
        """Identity of one measurement."""
        return _key(task.to_dict(), variant.name, variant.knobs, self.of(task), variant_revision(variant.name))


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

    def to_json(self) -> str:
        """One line."""
        body = {"v": _FORMAT, **{name: value for name, value in vars(self).items() if name != "key"}}
        if math.isfinite(self.cost_s):
            body["interval_s"] = self.interval_s
        body["revision"] = json.loads(self.key)["revision"]
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
        context=vars(context.of(task)), time=round(time.time(), 3), **result,
    )  # fmt: skip


def machine_record(context: Context, probe: str, unit: str, revision: str, costs_s: tuple[float, ...]) -> Record:
    """A record of the machine itself: seconds that one ``unit`` (flop, byte) of the resource ``probe`` takes."""
    task, context = {"kind": "machine", "unit": unit}, dataclasses.replace(context, weights="cache")
    return Record(
        key=_key(task, probe, {}, context, revision), task=task, variant=probe, knobs={}, costs_s=costs_s,
        context=vars(context), time=round(time.time(), 3),
    )  # fmt: skip


def _key(task: dict[str, Any], variant: str, knobs: dict[str, Any], context: Context, revision: str) -> str:
    return json.dumps(
        {"task": task, "variant": variant, "knobs": knobs, "revision": revision, **vars(context)},
        separators=(",", ":"), sort_keys=True,
    )  # fmt: skip


#: Interfaces that every kernel imports and none depends on for its code.
_INTERFACES = ("te_kernels.task", "te_kernels.variant", "te_kernels.check")


@functools.cache
def variant_revision(name: str) -> str:
    """Version of a variant's code: a digest of its module and of all kernel code it imports, comments excluded.

    A changed schedule makes its old measurements invisible instead of silently wrong; a changed docstring does not.
    """
    digest = hashlib.sha256()
    for module in sorted(_kernel_imports(all_variants()[name].__module__)):
        digest.update(_code_only(Path(str(importlib.import_module(module).__file__))).encode())
    return digest.hexdigest()[:12]


@functools.cache
def _kernel_imports(module: str) -> frozenset[str]:
    """``module`` and, transitively, the modules of ``te_kernels`` that it imports, interfaces left out."""
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        tree = ast.parse(Path(str(importlib.import_module(name).__file__)).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for other in imported:
                known = other.startswith("te_kernels.") and not other.startswith(_INTERFACES)
                if known and _is_module(other):
                    pending.append(other)
    return frozenset(found)


@functools.cache
def _is_module(name: str) -> bool:
    """Whether a dotted name is a module and not something inside one."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


@functools.cache
def _code_only(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return ast.unparse(tree)


class TuningLog:
    """Records by key, backed by a file (or by memory only, without a path). Later lines win."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._records: dict[str, Record] = {}
        if path is None:
            return
        if path.is_dir():
            raise UserError(f"{path}: is a folder", "give the path of a tuning log file")
        if path.exists():
            self._load(path)
        else:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            except OSError as error:
                raise UserError(
                    f"{path}: cannot create the tuning log ({error.strerror})",
                    "choose a writable place with --tuning-log",
                ) from error

    def get(self, key: str) -> Record | None:
        """The newest record with this key."""
        return self._records.get(key)

    def __len__(self) -> int:
        return len(self._records)

    def contexts(self) -> set[Context]:
        """Every context in which something was measured."""
        return {Context(**record.context) for record in self}

    def __iter__(self) -> Iterator[Record]:
        """All records, in the order of their first appearance."""
        return iter(list(self._records.values()))

    def append(self, records: Iterable[Record]) -> None:
        """Add records and write them at once: whole lines under a lock, so two tuners may share a file."""
        records = list(records)
        for record in records:
            self._records[record.key] = record
        if self.path is None or not records:
            return
        text = "".join(record.to_json() + "\n" for record in records).encode()
        try:
            with open(self.path, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = file.seek(0, os.SEEK_END)
                if size:  # a writer that was killed may have left half a line
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        text = b"\n" + text
                file.write(text)
                file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot write the tuning log ({error.strerror})",
                "choose a writable place with --tuning-log",
            ) from error

    def _load(self, path: Path) -> None:
        bad: list[int] = []
        try:
            with open(path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.strip():
                        continue
                    record = _parse(line)
                    if record is None:
                        bad.append(number)
                    else:
                        self._records[record.key] = record
        except OSError as error:
            raise UserError(
                f"{path}: cannot read the tuning log ({error.strerror})", "choose another file with --tuning-log"
            ) from error
        if bad:
            shown = ", ".join(str(n) for n in bad[:5]) + (", ..." if len(bad) > 5 else "")
            warnings.warn(
                f"{path}: {len(bad)} line(s) are not tuning records and were skipped (line {shown}); "
                f"the other {len(self._records)} records are used",
                stacklevel=3,
            )


def _parse(line: bytes) -> Record | None:
    """A record from a line of an untrusted file, or None when it is not one."""
    if len(line) > _MAX_LINE_BYTES:
        return None
    try:
        body = json.loads(line)
        if body["v"] != _FORMAT:
            return None
        context = Context(**body["context"])
        costs = tuple(float(c) for c in body["costs_s"])
        if not all(math.isfinite(c) and c >= 0 for c in costs):
            return None
        task, variant, knobs = dict(body["task"]), str(body["variant"]), dict(body["knobs"])
        error = body.get("error")
        relative = body.get("relative_error")
        return Record(
            key=_key(task, variant, knobs, context, str(body["revision"])),
            task=task, variant=variant, knobs=knobs, costs_s=costs,
            relative_error=None if relative is None else float(relative),
            error=None if error is None else str(error),
            context=vars(context), time=float(body.get("time", 0.0)),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return None
