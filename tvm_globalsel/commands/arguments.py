"""Parsers of commands, and the arguments that several of them have: each is declared here, once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tvm_globalsel.commands import types

#: What ``add_subparsers`` returns; every command adds itself to it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: Where and how kernels are measured.
MEASURING = ("--threads", "--tuning-log", "--rpc-tracker", "--rpc-key", "--trust-log", "--budget")
#: How a model is read.
READING = ("--shape", "--seed-weights", "--weights")

_SHARED: dict[str, dict[str, Any]] = {
    "folder": {"type": Path, "metavar": "DIR"},
    "model": {"type": Path, "metavar": "MODEL", "help": "MODEL.onnx, or NET.prototxt"},
    "models": {"type": Path, "nargs": "+", "metavar": "MODEL.onnx"},
    "--input": {"type": Path, "metavar": "X.npz", "help": "arrays by input name (default: seeded random)"},
    "--target": {"default": "host", "help": "'host', a TVM target tag, or a target as JSON"},
    "--precision": {"default": "float32", "choices": ("float32", "float16"), "help": "of a CUDA network"},
    "--threads": {"type": types.positive, "default": 1, "metavar": "N"},
    "--tuning-log": {"type": Path, "metavar": "FILE", "help": "default: in the user's cache folder"},
    "--rpc-tracker": {"metavar": "HOST:PORT", "help": "measure on devices behind TVM's RPC tracker"},
    "--rpc-key": {"metavar": "K", "help": "the key those devices registered with"},
    "--trust-log": {"action": "store_true", "help": "use what the log has of other machines, threads, versions"},
    "--budget": {
        "type": types.budget, "default": 300.0, "metavar": "SECONDS", "help": "time for measuring (default 300)",
    },
    "--device": {"metavar": "NAME", "help": "whose measurements in the log"},
    "--shape": {"action": "append", "default": [], "type": types.shape, "metavar": "NAME=1,3,224,224"},
    "--seed-weights": {"type": types.seed, "metavar": "N", "help": "replace the weights by seeded random ones"},
    "--weights": {"type": Path, "metavar": "FILE", "help": "the .caffemodel of a .prototxt"},
    "--pin": {"action": "append", "default": [], "type": types.pin, "metavar": "NODE=VARIANT"},
    "--forbid": {"action": "append", "default": [], "metavar": "VARIANT"},
    "--solver": {"default": "pbqp", "type": types.solver, "help": types.SOLVERS},
    "--solver-time": {"type": types.seconds, "metavar": "SECONDS"},
    "--json": {"action": "store_true"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
}  # fmt: skip


def add_shared(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add shared arguments, in this order; ``changes`` is what this command says otherwise about them."""
    for name in names:
        parser.add_argument(name, **{**_SHARED[name], **changes})


def add_command(
    commands: Commands, name: str, handler: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    """The parser of a command that ``handler`` runs."""
    parser = commands.add_parser(name, help=summary, description=summary)
    add_shared(parser, "--debug")
    parser.set_defaults(function=handler)
    return parser
