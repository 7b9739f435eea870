"""Tables of records and counts for people, and the same as JSON. What a log says is data: it is printed harmless."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tvm_globalsel.logs.edit import Pruned
from tvm_globalsel.logs.records import Count, outdated
from tvm_globalsel.record import INSIDE, Record, printable

_TASK_CHARACTERS = 60
_LEAST_WIDTH = 150


def choose(records: Iterable[Record], kind: str | None, variant: str | None, errors: bool) -> list[Record]:
    """The records of one task kind, of one variant, or the failed ones only."""
    return [
        r
        for r in records
        if (kind is None or r.task.get("kind") == kind)
        and (variant is None or r.variant == variant)
        and (not errors or r.error is not None)
    ]


def print_records(records: list[Record], limit: int) -> None:
    """A line a record: task, variant, median and spread, error, whether it is current."""
    console = _console()
    table = Table(box=None, pad_edge=False)
    for title, justify in (("task", "left"), ("variant", "left"), ("median ms", "right"), ("spread", "right"),
                           ("error or relative error", "left"), ("device, threads", "left"), ("", "left")):  # fmt: skip
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for record in records[:limit]:
        measured = math.isfinite(record.cost_s)
        spread = (max(record.costs_s) - min(record.costs_s)) / record.cost_s if measured and record.cost_s else 0.0
        knobs = ",".join(f"{k}={v}" for k, v in record.knobs.items())
        relative = "" if record.relative_error is None else f"{record.relative_error:.1e}"
        cells = (
            _task(record), f"{record.variant}[{knobs}]" if knobs else record.variant,
            f"{record.cost_s * 1e3:.4f}" if measured else "-", f"{spread:.0%}" if measured else "-",
            record.error or relative, f"{record.origin.device}, {record.origin.threads}",
            outdated(record) or _place(record),
        )  # fmt: skip
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    if len(records) > limit:
        console.print(f"{len(records) - limit} more; --limit N shows them, --kind, --variant and --errors choose")


def _console() -> Console:
    """Wide enough for the tables where the terminal is narrow or the output no terminal; nothing is read as markup."""
    return Console(width=max(_LEAST_WIDTH, Console().width), markup=False, emoji=False, highlight=False)


def _task(record: Record) -> str:
    fields = {name: value for name, value in record.task.items() if name != "kind"}
    text = f"{record.task.get('kind')} " + " ".join(f"{k}={_short(v)}" for k, v in fields.items())
    return text if len(text) <= _TASK_CHARACTERS else text[: _TASK_CHARACTERS - 3] + "..."


def _place(record: Record) -> str:
    return "inside of a network" if record.context.get("place") == INSIDE else ""


def _short(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) if not isinstance(value, str) else value


def print_counts(counts: list[Count]) -> None:
    """A line an origin."""
    table = Table(box=None, pad_edge=False)
    for title in ("device", "target", "threads", "TVM", "tasks", "variants", "records", "errors", "current"):
        table.add_column(title, justify="left" if title in ("device", "target", "TVM") else "right", overflow="fold")
    for c in counts:
        o = c.origin
        cells = (o.device, o.target, o.threads, o.tvm, c.tasks, c.variants, c.records, c.errors, c.current)
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    _console().print(table)
    print("current: the variant's code is still what was measured; of one key the newest record counts")


def pruned_line(pruned: Pruned) -> str:
    """One sentence."""
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(pruned.dropped.items()))
    why = f" ({reasons})" if reasons else ""
    return f"{pruned.path}: {pruned.kept} records kept, {sum(pruned.dropped.values())} dropped{why}"


def as_json(records: list[Record]) -> str:
    """The records as a JSON list."""
    return json.dumps([json.loads(record.to_json()) for record in records])


def counts_json(counts: list[Count]) -> str:
    """The counts as a JSON list."""
    return json.dumps([asdict(c) for c in counts])
