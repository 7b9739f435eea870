"""The command line: what all commands share. The commands themselves are in ``tvm_globalsel.commands``."""

from __future__ import annotations

import argparse
import errno
import sys
import warnings
from typing import Any

from tvm_globalsel.background import exit_interrupted
from tvm_globalsel.commands.bench import add_bench
from tvm_globalsel.commands.bundles import add_pack_tuning, add_run_tuning
from tvm_globalsel.commands.compiling import add_compile, add_pareto
from tvm_globalsel.commands.explaining import add_explain, add_solve, add_variants
from tvm_globalsel.commands.logs import add_log
from tvm_globalsel.commands.running import add_check, add_profile, add_run
from tvm_globalsel.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError

#: All commands, as the help lists them.
_COMMANDS = (
    add_compile, add_run, add_profile, add_explain, add_check, add_variants, add_solve, add_pareto, add_log, add_bench,
    add_pack_tuning, add_run_tuning,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        code: int = args.function(args)
        return code
    except UserError as error:
        if args.debug:
            raise
        print(f"globalsel: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("globalsel: interrupted; what was measured is in the tuning log, run again to go on", file=sys.stderr)
        exit_interrupted(EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        if args.debug:
            raise
        print(f"globalsel: error: {_explained(error)}", file=sys.stderr)
        return EXIT_USER_ERROR


def _explained(error: Exception) -> str:
    """What went wrong and what to do about it: a full disk is the user's, the rest is ours."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the output, the tuning log, the cache or the temporary folder"
        return f"{where}: {error.strerror}; make room and run again, what was measured is in the tuning log"
    text = str(error).strip().splitlines()
    said = text[-1][:300] if text else ""
    return f"{type(error).__name__}: {said}; this is a defect of globalsel, run again with --debug and report it"


def _show_warning(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
    if not category.__name__.endswith("DeprecationWarning"):
        print(f"globalsel: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="globalsel", description="Globally optimal kernel selection for CNNs on TVM.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
