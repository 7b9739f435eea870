"""Start a bundle: check that this machine can run it, unpack it, run its tuner with the runtime it brings along.

Standard library only. ``python3 BUNDLE`` (through ``__main__.py``) and ``globalsel run-tuning BUNDLE`` both end here.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tvm_globalsel.bundle.archive import read_manifest, reading, unpack
from tvm_globalsel.errors import UserError

ENTRY = b"""import sys

from tvm_globalsel.bundle.launch import main

sys.exit(main())
"""
_TUNE, _BENCH = "tvm_globalsel.bundle.run", "tvm_globalsel.bundle.bench"


def main() -> int:
    """What ``python3 BUNDLE ARGUMENTS`` does."""
    try:
        return launch(Path(sys.argv[0]), sys.argv[1:])
    except UserError as error:
        print(f"run-tuning: error: {error}", file=sys.stderr)
        return 2


def launch(bundle: Path, arguments: list[str]) -> int:
    """Unpack ``bundle`` into a temporary folder and run it there; its exit code.

    With ``bench`` as the first argument it times whole plans from a log (see ``bench``), else it tunes (see ``run``).

    Raises :class:`UserError` when the file is damaged, or made for another machine or another Python.
    """
    with tempfile.TemporaryDirectory(prefix="globalsel-") as temporary, reading(bundle) as archive:
        needs = read_manifest(archive).get("needs", {})
        interpreter = _interpreter(str(needs.get("python", "")), bundle)
        system, machine = str(needs.get("system", "")), str(needs.get("machine", ""))
        if (system, machine) != (platform.system(), platform.machine()):
            raise UserError(
                f"{bundle}: made for {system} on {machine}; this is {platform.system()} on {platform.machine()}",
                "pack it for this target",
            )
        if "numpy" in needs and interpreter == sys.executable and importlib.util.find_spec("numpy") is None:
            raise UserError(
                f"{bundle}: packed without numpy, and {sys.executable} has none",
                "install numpy there, or pack without --no-numpy",
            )
        unpack(archive, Path(temporary))
        return run(Path(temporary), interpreter, arguments, alone="numpy" not in needs)


def run(folder: Path, interpreter: str, arguments: list[str], alone: bool) -> int:
    """Run an unpacked bundle with the packages it brings along; ``alone``: and no others (``-S``)."""
    is_bench = arguments[:1] == ["bench"]
    module, arguments = (_BENCH, arguments[1:]) if is_bench else (_TUNE, arguments)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(folder), "PYTHONNOUSERSITE": "1", "TVM_USE_RUNTIME_LIB": "1"}
    command = [interpreter, *(["-S"] if alone else []), "-m", module, str(folder), *arguments]
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the tuner gets it too, and ends by itself
            continue


def _interpreter(wanted: str, bundle: Path) -> str:
    """A Python of the version that the bundle's compiled parts are for: this one, or another one that is installed."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted == here:
        return sys.executable
    other = shutil.which(f"python{wanted}")
    if other is None:
        raise UserError(
            f"{bundle}: holds a runtime for Python {wanted}; this is {here}, and there is no python{wanted} here",
            f"run it with Python {wanted}, or pack it with --python {here}",
        )
    return other
