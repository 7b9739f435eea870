"""The tuner inside a bundle: ``python -m tvm_globalsel.bundle.run FOLDER -o log.jsonl`` on an unpacked one."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tvm_globalsel.bundle.compiler_free import prepare_imports
from tvm_globalsel.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Arguments that follow the bundle's path."""
    options = argparse.ArgumentParser(
        prog="run-tuning", description="Measure a bundle's kernels on this machine into a tuning log."
    )
    options.add_argument("-o", "--output", type=Path, required=True, metavar="LOG.jsonl",
                         help="what it holds already is not measured again")  # fmt: skip
    options.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="default: no limit")
    options.add_argument("--timeout", type=float, default=40.0, metavar="SECONDS",
                         help="of the kernels of one library together (default 40)")  # fmt: skip
    options.add_argument("--device-name", metavar="NAME", help="default: what the driver or the system calls it")
    options.add_argument("--debug", action="store_true", help="show tracebacks, and what crashing kernels print")
    return options


def main(arguments: list[str]) -> int:
    """Exit code 0 when all is measured, 1 when the time was up before, 2 for an error of the user, 130 for Ctrl-C."""
    folder, options = Path(arguments[0]), parser().parse_args(arguments[1:])
    try:
        return tune(folder, options)
    except UserError as error:
        if options.debug:
            raise
        print(f"run-tuning: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nrun-tuning: interrupted; what was measured is in the log, run again to go on", file=sys.stderr)
        return 130


def tune(folder: Path, options: argparse.Namespace) -> int:
    """Measure an unpacked bundle."""
    prepare_imports()
    from tvm_globalsel.bundle.child import Child
    from tvm_globalsel.bundle.contents import open_bundle
    from tvm_globalsel.bundle.turns import measure_bundle
    from tvm_globalsel.log import TuningLog

    manifest = open_bundle(folder)
    log = TuningLog(options.output)
    child = Child(folder, manifest.device, quiet=not options.debug)
    try:
        name = options.device_name or child.device_name()
        say(f"{sum(len(library.kernels) for library in manifest.libraries)} kernels for {', '.join(manifest.models)}; "
            f"{manifest.target}, {manifest.threads} thread(s); on {name}")  # fmt: skip
        line = ProgressLine()
        done = measure_bundle(manifest, log, manifest.context(name), child, options.budget, line.show, options.timeout)
        line.end()
    except RuntimeError as error:
        raise UserError(
            f"the kernels cannot run here: {error}", "is this the machine the bundle was made for?"
        ) from error
    finally:
        child.stop()
    say(f"{done.new} measured ({done.failed} failed), {done.known} in the log already: {options.output}")
    if done.skipped:
        say(f"the time was up: {done.skipped} are left; run again to go on")
    return 1 if done.skipped else 0


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


class ProgressLine:
    """How far it is: one line that is overwritten in a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def show(self, done: int, total: int, what: str) -> None:
        """Called after every library."""
        now = time.monotonic()
        if done == 0 or not (self._terminal or done == total or now - self._last >= 10):
            return
        self._last = now
        left_s = (now - self._start) / done * (total - done)
        text = f"{done}/{total} measured, {now - self._start:.0f} s, about {left_s:.0f} s left; {what}"
        print(f"\r{text[:100]:<100}" if self._terminal else text, end="" if self._terminal else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    def end(self) -> None:
        """Leave the line."""
        if self._terminal:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
