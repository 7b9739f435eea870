"""``log``: what tuning logs hold."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_globalsel.commands.arguments import Commands, add_shared
from tvm_globalsel.errors import UserError

if TYPE_CHECKING:
    from tvm_globalsel.record import Record


def add_log(commands: Commands) -> None:
    """``globalsel log``, which has commands of its own."""
    log = commands.add_parser("log", help="look into tuning logs, merge and prune them")
    actions = log.add_subparsers(required=True, metavar="show|merge|prune|stats")

    show = actions.add_parser("show", help="the records, one a line")
    show.add_argument("--kind", metavar="KIND", help="of one kind of task: conv2d, pool, dense, transform, ...")
    show.add_argument("--variant", metavar="NAME")
    show.add_argument("--errors", action="store_true", help="failed measurements only")
    show.add_argument("--limit", type=int, default=100, metavar="N", help="at most N lines (default 100)")
    add_shared(show, "--json", help="all of them, as JSON")
    show.set_defaults(function=_show)

    merge = actions.add_parser("merge", help="several logs into one, a record a key")
    merge.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    merge.add_argument("--keep", choices=("newest", "precise"), default="newest",
                       help="which of several measurements of the same (default newest)")  # fmt: skip
    merge.set_defaults(function=_merge)

    prune = actions.add_parser("prune", help="drop records of old kernel code, repeated ones and damaged lines")
    prune.add_argument("--errors", action="store_true", help="failed measurements too; they will be tried again")
    prune.add_argument("--other-devices", action="store_true", help="all that was not measured on this processor too")
    prune.set_defaults(function=_prune)

    stats = actions.add_parser("stats", help="counts by machine, threads and version")
    add_shared(stats, "--json")
    stats.set_defaults(function=_stats)

    for action in (show, merge, prune, stats):
        action.add_argument("files", type=Path, nargs="+", metavar="FILE")
        add_shared(action, "--debug")


def _read(files: list[Path]) -> list[Record]:
    from tvm_globalsel.log_file import read_file

    records = []
    for path in files:
        reading = read_file(path)
        _report(path, reading.bad)
        records += reading.records
    return records


def _report(path: Path, bad: list[int]) -> None:
    from tvm_globalsel.log_file import damage

    if bad:
        print(f"globalsel: warning: {damage(str(path), bad)}", file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    from tvm_globalsel.logs.show import as_json, choose, print_records

    chosen = choose(_read(args.files), args.kind, args.variant, args.errors)
    if args.json:
        print(as_json(chosen))
    else:
        print_records(chosen, args.limit)
    return 0


def _merge(args: argparse.Namespace) -> int:
    from tvm_globalsel.logs.edit import merge

    merged = merge(args.files, args.output, args.keep)
    for path, bad in merged.bad.items():
        _report(path, bad)
    read = sum(merged.read.values())
    print(f"{args.output}: {merged.written} records, merged from {read} in {len(merged.read)} logs")
    return 0


def _prune(args: argparse.Namespace) -> int:
    from tvm_globalsel.device import device_name
    from tvm_globalsel.logs.edit import prune
    from tvm_globalsel.logs.show import pruned_line

    missing = [path for path in args.files if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such tuning log", "nothing was pruned; give the paths of logs")
    for path in args.files:
        print(pruned_line(prune(path, args.errors, device_name() if args.other_devices else None)))
    return 0


def _stats(args: argparse.Namespace) -> int:
    from tvm_globalsel.logs.records import count
    from tvm_globalsel.logs.show import counts_json, print_counts

    counts = count(_read(args.files))
    if args.json:
        print(counts_json(counts))
    else:
        print_counts(counts)
    return 0
