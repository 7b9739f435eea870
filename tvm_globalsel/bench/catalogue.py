"""Which engines there are, and which interpreter can host each."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tvm_globalsel.errors import UserError

OURS = "globalsel"
_FOLDER = Path(__file__).parent / "engines"
#: Files in the folder of engines that only help engines.
_HELPERS = ("__init__", "onnx_in_torch")


@dataclass(frozen=True)
class Engine:
    """An engine file and what it needs its interpreter to import."""

    name: str
    file: Path
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Hosted:
    """An engine with the interpreter that can import it, and the versions that this interpreter has of its modules."""

    engine: Engine
    python: str
    versions: tuple[str, ...]


def engines() -> dict[str, Engine]:
    """Every engine file, by name."""
    found = {}
    for path in sorted(_FOLDER.glob("*.py")):
        if path.stem in _HELPERS:
            continue
        spec = importlib.util.spec_from_file_location(f"engine_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)  # imports nothing but numpy, see the package's docstring
        found[path.stem] = Engine(path.stem, path, (*module.MODULES, *getattr(module, "CONVERTERS", ())))
    return found


def find(names: list[str], pythons: list[str]) -> tuple[list[Hosted], dict[str, str]]:
    """The engines that can run, in the order asked for, and for each other one why it cannot.

    The first interpreter of ``pythons`` that has all modules of an engine hosts it.
    """
    known = engines()
    unknown = [name for name in names if name not in known or name == OURS]
    if unknown:
        raise UserError(
            f"--against {unknown[0]!r} is no engine", f"choose from {', '.join(n for n in known if n != OURS)}"
        )
    modules = sorted({module for name in names for module in known[name].modules})
    present = {python: _versions(python, modules) for python in pythons}
    hosted, missing = [], {}
    for name in names:
        wanted = known[name].modules
        python = next((p for p in pythons if all(m in present[p] for m in wanted)), None)
        if python is None:
            lacking = [m for m in wanted if not any(m in present[p] for p in pythons)]
            what = f"{', '.join(lacking)} not installed" if lacking else "no interpreter has all of its modules"
            extra = "peers-tflite" if name == "tflite" else "peers"
            advice = f"pip install 'tvm-globalsel[{extra}]', or --peer-python"
            missing[name] = f"{what} (needs {', '.join(wanted)}: {advice})"
        else:
            hosted.append(Hosted(known[name], python, tuple(f"{m} {present[python][m]}" for m in wanted)))
    return hosted, missing


def ours() -> Hosted:
    """Our own engine, in this interpreter."""
    return Hosted(engines()[OURS], sys.executable, ())


_LIST_VERSIONS = """
import importlib.metadata as metadata, importlib.util as util, json, sys
named = metadata.packages_distributions() if hasattr(metadata, "packages_distributions") else {}
found = {}
for module in json.loads(sys.argv[1]):
    try:
        present = util.find_spec(module)
    except ImportError:  # of the package that a dotted name is in
        continue
    if present:
        distributions = named.get(module.split(".")[0], [])
        found[module] = metadata.version(distributions[0]) if distributions else "?"
print(json.dumps(found))
"""


def _versions(python: str, modules: list[str]) -> dict[str, str]:
    """Version of each module that an interpreter can import."""
    try:
        done = subprocess.run(
            [python, "-c", _LIST_VERSIONS, json.dumps(modules)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"--peer-python {python}: cannot be run ({error})", "give a Python interpreter") from error
    found: dict[str, str] = json.loads(done.stdout)
    return found
