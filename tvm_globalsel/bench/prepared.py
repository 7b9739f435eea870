"""Models made ready for the engines, once: our compiled folders and the peers' converted files, in a cache."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import te_kernels
import tvm_globalsel
from tvm_globalsel.bench.catalogue import Hosted, ours
from tvm_globalsel.bench.process import EngineError, EngineProcess
from tvm_globalsel.bench.race import Entrant
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.batch import set_batch
from tvm_globalsel.frontends.onnx import load_model, prepare
from tvm_globalsel.options import Options, cache_folder
from tvm_globalsel.pipeline import compile
from tvm_globalsel.runtime import fingerprint, read_plan

_CONVERSION_S = 1800.0
_COMPLETE = "complete.json"
#: Folders of one name that are kept: versions, options and batch sizes of one model, often hundreds of megabytes each.
_KEPT = 3
_KEY = 16


@dataclass(frozen=True)
class Model:
    """An ONNX file with static shapes at the wanted batch size; ``digest`` identifies its bytes."""

    name: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Cache:
    """Folders by what they were made from. Incomplete ones are made again; the latest of each name are kept."""

    root: Path

    def folder(self, name: str, facts: dict[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder made from ``facts``; ``make`` fills it when it is not there yet."""
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY]
        folder = self.root / f"{name}-{key}"
        if not (folder / _COMPLETE).exists():
            with self._unfinished() as unfinished:
                make(unfinished)
                (unfinished / _COMPLETE).write_text(json.dumps(facts, indent=1) + "\n")
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(unfinished, folder)
        os.utime(folder, ns=(time.time_ns(),) * 2)  # the file system's own clock is coarser
        for old in self._made(name)[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def _made(self, name: str) -> list[Path]:
        """The folders of that name, the one used last first."""
        found = [path for path in self.root.glob(f"{glob.escape(name)}-{'[0-9a-f]' * _KEY}") if path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.root, prefix="unfinished-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def default_cache() -> Path:
    """The user's own cache folder."""
    return cache_folder() / "bench"


def static_model(path: Path, options: Options, batch: int | None, cache: Cache) -> Model:
    """The file that every engine reads: static shapes, the batch size, seeded weights where that is asked for."""
    name = path.stem.removeprefix("light_")
    facts = {
        "source": _digest(_existing(path)), "batch": batch, "seed": options.seed_weights,
        "shapes": {n: list(s) for n, s in options.shapes.items()},
        "sources": [_sources_digest(), _digest(Path(__file__))],
    }  # fmt: skip

    def make(folder: Path) -> None:
        loaded = load_model(path)
        if batch is not None:
            set_batch(loaded, batch)
        static = prepare(loaded, options.shapes, options.seed_weights)
        _spell_out_softmax(static)
        onnx.save(static, str(folder / f"{name}.onnx"))

    file = cache.folder(f"{name}-onnx", facts, make) / f"{name}.onnx"
    return Model(name, file, _digest(file))


def _spell_out_softmax(model: onnx.ModelProto) -> None:
    """Name the axis of every softmax: its default changed with opset 13, and converters take the new one for all."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    for node in model.graph.node:
        if node.op_type in ("Softmax", "LogSoftmax") and not any(a.name == "axis" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("axis", 1 if version < 13 else -1))


def our_entrant(model: Model, selection: str, options: Options, cache: Cache, compiler: dict[str, Any]) -> Entrant:
    """Our engine with the plan of one solver; compiled when it is not in the cache.

    ``compiler`` are the callbacks of :func:`tvm_globalsel.pipeline.compile`.
    """
    solver = "pbqp" if selection == "global" else selection
    settings = {**vars(options), "solver": solver, "shapes": {}, "seed_weights": None}
    facts = {
        "model": model.digest, "package": tvm_globalsel.__version__, "sources": _sources_digest(),
        "options": {key: str(settings[key]) for key in ("target", "threads", "solver", "demands", "tuning_log")},
    }  # fmt: skip

    def make(folder: Path) -> None:
        compile(model.path, folder, Options(**settings), **compiler)

    name = f"{model.name}-{selection.replace(':', '-')}-{options.threads}t"
    folder = cache.folder(name, facts, make)
    read_plan(folder)  # a damaged cache is better found here than in the engine's process
    label = "globalsel" if selection == "global" else f"globalsel {selection}"
    return Entrant(label, ours(), model.path, folder)


def peer_entrant(model: Model, hosted: Hosted, threads: int, cache: Cache) -> Entrant:
    """Another engine with its converted model; raises :class:`EngineError` when the conversion fails."""
    facts = {"model": model.digest, "engine": hosted.engine.name, "versions": hosted.versions, "threads": threads,
             "file": _digest(hosted.engine.file)}  # fmt: skip

    def make(folder: Path) -> None:
        with EngineProcess(hosted, threads) as process:
            process.ask(_CONVERSION_S, prepare=str(model.path), folder=str(folder), threads=threads)

    try:
        folder = cache.folder(f"{model.name}-{hosted.engine.name}-{threads}t", facts, make)
    except EngineError as error:
        raise EngineError(f"the model cannot be converted: {error}") from error
    return Entrant(hosted.engine.name, hosted, model.path, folder)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file", "give the path of an ONNX model")
    return path


def _digest(path: Path) -> str:
    return str(fingerprint(path)["sha256"])


@functools.cache
def _sources_digest() -> str:
    """Of all code that decides what a compilation gives."""
    digest = hashlib.sha256()
    for package in (te_kernels, tvm_globalsel):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            if "bench" not in path.relative_to(root).parts:
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
