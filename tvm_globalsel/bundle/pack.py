"""``globalsel pack-tuning``: everything that a machine without a compiler needs to tune a network, in one file."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import tvm

from te_kernels.gpu import Gpu, dtype_of
from te_kernels.machine import Machine
from te_kernels.variant import extra_modules
from tvm_globalsel.bundle import launch
from tvm_globalsel.bundle.archive import BundleWriter
from tvm_globalsel.bundle.libraries import Built, build_libraries
from tvm_globalsel.bundle.manifest import LIBRARIES, Kernel, Library, Manifest
from tvm_globalsel.bundle.networks import Packed as PackedNetwork
from tvm_globalsel.bundle.networks import with_batch
from tvm_globalsel.bundle.runtime_files import device_files, own_files, runtime_files
from tvm_globalsel.candidates import measuring_order
from tvm_globalsel.errors import UserError
from tvm_globalsel.extract import extract
from tvm_globalsel.frontends.onnx import import_onnx
from tvm_globalsel.frontends.read import read_model
from tvm_globalsel.fuse import simplify
from tvm_globalsel.graph import Network
from tvm_globalsel.listing import Listing, list_candidates
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.offline import log_target
from tvm_globalsel.options import Options, Say, default_log
from tvm_globalsel.precision import in_precision
from tvm_globalsel.targets import describe_target, parse_target

_MANIFEST_BYTES = 60  # of one kernel, compressed; seen were 12 to 14
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Packing:
    """What a bundle shall be: for which Python (``"3.12"``; its wheels in ``wheels``), its limits, its batch sizes.

    Kernels beyond a limit are left out, the least promising first. Without ``batches`` the models' own are taken.
    Without ``numpy`` it is a third as large, and the target's own is used.
    """

    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheels: Path | None = None
    max_bytes: int = 60 << 20
    max_kernels: int | None = None
    batches: tuple[int, ...] = ()
    numpy: bool = True


@dataclass(frozen=True)
class Packed:
    """What it became. ``known`` kernels were in the log already, ``left_out`` ones beyond the limits."""

    path: Path
    size_bytes: int
    kernels: int
    failed: int
    known: int
    left_out: int


def pack_tuning(
    models: list[Path], output: Path, options: Options, packing: Packing | None = None,
    progress: Progress | None = None, say: Say = lambda text: None,
) -> Packed:  # fmt: skip
    """Build all candidates and transforms that the log does not know into the bundle ``output``."""
    packing = packing or Packing()
    progress = progress or (lambda done, total, what: None)
    target = parse_target(options.target, options.threads)
    machine = describe_target(target, options)
    listings, networks = [], []
    for model in models:
        for batch, network in _networks(model, options, packing.batches):
            listings.append(list_candidates(in_precision(network, dtype_of(machine)), machine))
            networks.append(_packed_network(model, batch, listings[-1]))
    kernels = kernels_of(listings)
    wanted = unknown(kernels, options, machine, target)
    known = len(kernels) - len(wanted)
    beyond = len(wanted) - len(wanted[: packing.max_kernels])
    wanted = wanted[: packing.max_kernels]
    if not wanted:
        raise UserError("the tuning log has every measurement already", "compile the model, or choose another log")
    say(f"{len(wanted)} kernels to build, {known} in the log already")
    return write_bundle(output, networks, wanted, target, machine, options, packing, (known, beyond), progress)


def _networks(model: Path, options: Options, batches: tuple[int, ...]) -> list[tuple[int, Network]]:
    """The model's network at every batch size; 0 stands for the model's own."""
    imported = import_onnx(read_model(model, options.shapes, options.seed_weights, options.weights), str(model))
    network = simplify(extract(imported.module, imported.names))
    try:
        return [(batch, with_batch(network, batch) if batch else network) for batch in batches or (0,)]
    except ValueError as error:
        raise UserError(f"{model}: cannot be made for another batch size ({error})", "leave out --batch") from error


def _packed_network(model: Path, batch: int, listing: Listing) -> PackedNetwork:
    """What the target needs of a network to assemble plans."""
    first = listing.network.inputs[0].shape if listing.network.inputs else ()
    return PackedNetwork(model.stem, batch or (first[0] if first else 1), listing.weights, listing.network)


def kernels_of(listings: list[Listing]) -> list[Kernel]:
    """Every instance of every variant: one for each task, then the first of every variant, then the others."""
    ranked: list[tuple[int, Kernel]] = []
    for listing in listings:
        order = measuring_order(listing.everything)
        tasks = sum(bool(candidates.variants) for candidates in listing.everything)
        seen = set(order)
        rest = [(c.task, v) for c in listing.everything for v in c.variants if (c.task, v) not in seen]
        for number, (task, variant) in enumerate([*order, *rest]):
            weights = Context("", "", 0, "", listing.weights).of(task).weights
            rank = (number >= tasks) + (number >= len(order))
            ranked.append((rank, Kernel(task, variant, weights)))
    ranked.sort(key=lambda item: item[0])
    return list(dict.fromkeys(kernel for _, kernel in ranked))


def unknown(kernels: list[Kernel], options: Options, machine: Machine | Gpu, target: tvm.target.Target) -> list[Kernel]:
    """Those that the log lacks for the device that was named, or for any one device of the target."""
    path = options.tuning_log or default_log()
    if not path.exists():
        return kernels
    log = TuningLog(path)
    identity = log_target(machine, target)
    devices = {o.device for o in log.origins() if (o.target, o.threads) == (identity, machine.threads)}
    device = options.device or (devices.pop() if len(devices) == 1 else None)
    if device is None:
        return kernels
    base = Context(identity, device, machine.threads, tvm.__version__)
    return [kernel for kernel in kernels if log.get(kernel.key(base)) is None]


def write_bundle(
    output: Path, networks: list[PackedNetwork], wanted: list[Kernel], target: tvm.target.Target,
    machine: Machine | Gpu, options: Options, packing: Packing, counts: tuple[int, int], progress: Progress,
) -> Packed:  # fmt: skip
    """Build ``wanted`` and write the file; it appears under its name only when it is complete.

    ``counts`` are the kernels known and those left out already, for the report.
    """
    known, beyond = counts
    libraries: list[Library] = []
    packed = failed = 0
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=".", suffix=".pyz")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})", "choose another place with -o") from error
    os.close(handle)
    partial = Path(name)
    try:
        writer = BundleWriter(partial)
        writer.add("__main__.py", launch.ENTRY)
        device = "cpu" if machine.kind == "llvm" else machine.kind
        for file, data in (
            *own_files(),
            *device_files(device),
            *runtime_files(packing.python, packing.wheels, packing.numpy),
        ):
            writer.add(file, data)
        for built in build_libraries(wanted, target, asdict(machine), progress):
            if not _fits(built, writer, packing, packed):
                break
            libraries.append(_add(built, writer, len(libraries)))
            packed += len(built.kernels)
            failed += len(built.kernels) if built.library is None else 0
        needs = {"system": platform.system(), "machine": platform.machine(), "python": packing.python}
        needs |= {} if packing.numpy else {"numpy": "installed"}
        names = tuple(dict.fromkeys(packed.name for packed in networks))
        manifest = Manifest(
            names, log_target(machine, target), machine.threads, tvm.__version__, device, asdict(machine), needs,
            extra_modules(), tuple(networks), tuple(libraries),
        )  # fmt: skip
        writer.close(manifest.to_json())
        partial.chmod(0o755)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    return Packed(output, output.stat().st_size, packed, failed, known, beyond + len(wanted) - packed)


def _fits(built: Built, writer: BundleWriter, packing: Packing, packed: int) -> bool:
    # how far a library shrinks is known once it is packed; that it does not grow is enough here
    expected = len(built.library or b"") + _MANIFEST_BYTES * (packed + len(built.kernels))
    return writer.size_bytes + expected <= packing.max_bytes


def _add(built: Built, writer: BundleWriter, number: int) -> Library:
    if built.library is None:
        return Library(None, built.kernels, built.error)
    file = f"{LIBRARIES}/{number:05d}.so"
    writer.add_kernels(file, built.library)
    return Library(file, built.kernels)
