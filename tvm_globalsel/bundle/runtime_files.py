"""What a bundle brings along beside kernels: TVM's runtime, numpy, and our own modules that work without a compiler."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import te_kernels
import tvm_globalsel
from te_kernels.variant import extra_modules
from tvm_globalsel.build_cuda import cuda_runtime
from tvm_globalsel.bundle.device import CUDART
from tvm_globalsel.errors import UserError

#: Distributions of the target's process; those with ``True`` have compiled parts for one version of Python.
_DISTRIBUTIONS = {
    "apache-tvm": False, "apache-tvm-ffi": True, "numpy": True, "ml-dtypes": True, "typing-extensions": False,
}  # fmt: skip
#: Not needed to run kernels: compilers, sources, headers, tests, what only a browser or a build uses.
_LEFT_OUT = re.compile(
    r"tvm/(3rdparty|src|include|web|cmake|topi|relax|testing|exec|lib64)/|tvm/lib/libtvm_(compiler|runtime_extra)"
    r"|tvm_ffi/(3rdparty|src|include|cython|share|stub)/"
    r"|(^|/)(tests?|testing|__pycache__|f2py|_pyinstaller|distutils)/|numpy/(_core/(include|lib)|random/lib)/"
    r"|\.(pyi|pyc|h|hpp|pxd|pyx|a|lib|cc|cmake)$|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url|WHEEL|entry_points)"
)
_ALWAYS = re.compile(r"tvm_ffi/(testing|lib)/|numpy/(testing|_core/tests/_natype)")  # imported all the same
#: Our modules that run on the target.
_OURS = (
    "__init__", "arborescence", "candidates", "choices", "deferral", "errors", "graph", "large_pages", "log", "device",
    "log_file", "opaque", "pairs", "record", "revision", "timing", "problem", "runtime_library", "selection", "worker",
    "bundle/__init__", "bundle/archive", "bundle/assemble", "bundle/bench", "bundle/child", "bundle/compiler_free",
    "bundle/contents", "bundle/cuda_graph", "bundle/cuda_timing", "bundle/device", "bundle/launch", "bundle/manifest",
    "bundle/networks", "bundle/plans", "bundle/run", "bundle/seeded", "bundle/torch_peer", "bundle/torch_side",
    "bundle/turns", "solve/__init__", "solve/bounds", "solve/branch", "solve/elimination", "solve/encode",
    "solve/graph", "solve/infeasible", "solve/local", "solve/pbqp", "solve/pieces", "solve/reductions",
    "solve/restrict", "solve/signatures", "solve/single", "solve/sum2d",
)  # fmt: skip


def own_files() -> Iterator[tuple[str, bytes]]:
    """(name in the bundle, bytes) of all kernel code, whose revisions the log records, and our runner."""
    root = Path(te_kernels.__file__).parent
    for path in sorted(root.rglob("*.py")):
        yield f"te_kernels/{path.relative_to(root)}", path.read_bytes()
    root = Path(tvm_globalsel.__file__).parent
    for name in _OURS:
        yield f"tvm_globalsel/{name}.py", (root / f"{name}.py").read_bytes()
    packages: set[str] = set()
    for module in extra_modules():
        *parents, last = module.split(".")
        yield "/".join([*parents, f"{last}.py"]), Path(str(importlib.import_module(module).__file__)).read_bytes()
        packages |= {"/".join(parents[: i + 1]) for i in range(len(parents))}
    yield from ((f"{package}/__init__.py", b"") for package in sorted(packages))


def device_files(kind: str) -> Iterator[tuple[str, bytes]]:
    """(name in the bundle, bytes) of what TVM's runtime for this kind of device needs beside the driver.

    CUDA's runtime library is free to be passed on (NVIDIA's CUDA Toolkit EULA, attachment A). Where there is none, the
    target's is used.
    """
    if kind == "cuda" and (library := cuda_runtime()) is not None and library.name.startswith(CUDART):
        yield f"tvm/lib/{CUDART}", library.read_bytes()


def runtime_files(python: str, wheels: Path | None, numpy: bool = True) -> Iterator[tuple[str, bytes]]:
    """(name in the bundle, bytes) of TVM's runtime and what it imports, for Python ``python`` (such as ``"3.12"``).

    What is installed here is taken where it fits; the compiled parts for another Python come from wheel files in the
    folder ``wheels``, or from pip. ``numpy`` may be left to the target. Raises :class:`UserError` naming what is
    missing.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(prefix="globalsel-") as temporary:
        wanted = {name: compiled for name, compiled in _DISTRIBUTIONS.items() if numpy or name != "numpy"}
        if python != here and wheels is None:
            _download(python, Path(temporary), [name for name, compiled in wanted.items() if compiled])
        for name, compiled in wanted.items():
            if compiled and python != here:
                yield from _of_wheel(name, python, wheels or Path(temporary))
            else:
                yield from _installed(name)


def _download(python: str, folder: Path, names: list[str]) -> None:
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--python-version", python, "--dest", str(folder), *wanted]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UserError(
            f"--python {python}: pip cannot get {', '.join(wanted)} for it ({''.join(lines[-1:])[:200]})",
            "get the wheels on another machine with 'pip download --no-deps', and give their folder as --wheels",
        )


def _wanted(name: str) -> bool:
    if name.startswith(("../", "/")):
        return False  # scripts
    return bool(_ALWAYS.match(name)) or not _LEFT_OUT.search(name)


def _installed(name: str) -> Iterator[tuple[str, bytes]]:
    for file in importlib.metadata.distribution(name).files or []:
        if _wanted(file.as_posix()):
            yield file.as_posix(), Path(str(file.locate())).read_bytes()


def _of_wheel(name: str, python: str, wheels: Path) -> Iterator[tuple[str, bytes]]:
    tag = f"cp{python.replace('.', '')}"
    found = sorted(wheels.glob(f"{name.replace('-', '_')}-*-{tag}-*.whl"))
    exact = [path for path in found if path.name.split("-")[1] == importlib.metadata.version(name)]
    # numpy may be another version there: arrays are all that is asked of it
    chosen = exact or (found if name == "numpy" else [])
    if not chosen:
        raise UserError(
            f"--python {python}: no wheel of {name} {importlib.metadata.version(name)} for {tag} in {wheels}",
            "get it with 'pip download --no-deps --only-binary :all: --python-version'",
        )
    try:
        with zipfile.ZipFile(chosen[-1]) as archive:
            for member in archive.infolist():
                if not member.is_dir() and _wanted(member.filename):
                    yield member.filename, archive.read(member)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{chosen[-1]}: not a readable wheel ({error})", "download it again") from error
