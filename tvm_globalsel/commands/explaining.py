"""``explain``, ``variants`` and ``solve``: what was chosen, what there is to choose from, and what choosing costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_globalsel.commands import types
from tvm_globalsel.commands.arguments import Commands, add_command, add_shared


def add_explain(commands: Commands) -> None:
    """``globalsel explain``."""
    summary = "what was chosen for every layer, why, and what the alternatives would cost"
    parser = add_command(commands, "explain", _explain, summary)
    add_shared(parser, "folder")
    parser.add_argument("--node", metavar="NAME", help="all alternatives of one operator")
    add_shared(parser, "--json", help="print the plan itself")


def add_variants(commands: Commands) -> None:
    """``globalsel variants``."""
    summary = "every variant; with a shape, which apply and why others do not"
    parser = add_command(commands, "variants", _variants, summary)
    parser.add_argument("--conv", type=types.conv, metavar="C,H,W,K,R,S,STRIDE,PAD,GROUPS", action="append", default=[],
                        help="a layer; twice for what does two of them, one behind the other, at once")  # fmt: skip
    add_shared(parser, "--target", "--precision", "--threads")


def add_solve(commands: Commands) -> None:
    """``globalsel solve``."""
    summary = "solve cost tables of triNNity's form: the optimum and what others would choose"
    parser = add_command(commands, "solve", _solve, summary)
    parser.add_argument("--trinnity", type=Path, required=True, metavar="DIR",
                        help="folder with algorithms.csv, primitives.csv and transforms.csv")  # fmt: skip
    add_shared(parser, "--solver", "--json")


def _explain(args: argparse.Namespace) -> int:
    from tvm_globalsel.report.tables import explain, explain_node
    from tvm_globalsel.runtime import read_plan

    plan = read_plan(args.folder)
    if args.json:
        print(json.dumps(plan))
    elif args.node:
        explain_node(plan, args.node)
    else:
        explain(plan)
    return 0


def _variants(args: argparse.Namespace) -> int:
    from tvm_globalsel.options import Options
    from tvm_globalsel.report.variants import list_variants

    list_variants(args.conv, Options(target=args.target, precision=args.precision, threads=args.threads))
    return 0


def _solve(args: argparse.Namespace) -> int:
    from tvm_globalsel.trinnity import read_tables, solve_tables

    result = solve_tables(read_tables(args.trinnity), args.solver)
    if args.json:
        print(json.dumps(result))
        return 0
    from tvm_globalsel.report.costs import print_costs

    print_costs(result)
    return 0
