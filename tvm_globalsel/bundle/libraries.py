"""Build candidates into shared libraries, several kernels each, in parallel processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tvm

from te_kernels.task import OpaqueTask
from tvm_globalsel import batch
from tvm_globalsel.builder import Builder, BuiltBatch
from tvm_globalsel.bundle import cuda_library
from tvm_globalsel.bundle.manifest import Kernel
from tvm_globalsel.errors import UserError

_KERNELS_IN_LIBRARY = 8
_LIBRARIES_IN_WAVE = 12
_BUILD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Built:
    """A library's bytes, or why there are none."""

    kernels: tuple[Kernel, ...]
    library: bytes | None
    error: str | None = None


def build_libraries(
    kernels: list[Kernel], target: tvm.target.Target, machine: dict[str, Any],
    progress: Callable[[int, int, str], None], done: int = 0,
) -> Iterator[Built]:  # fmt: skip
    """Libraries in the order of ``kernels``, neighbours of one task together as far as a wave reaches.

    ``machine`` is the machine model's fields. A kernel whose schedule fails is missing in its library; one that takes
    the builder's process down is built by itself, so that its error is its own.
    """
    if not any(shutil.which(name) for name in ("g++", "gcc", "cc", "clang")):
        raise UserError("no C compiler was found, which TVM needs to link the kernels", "install gcc or clang")
    build_batch = cuda_library.build_batch if machine["kind"] == "cuda" else batch.build_batch
    builder = Builder(build_batch, batch.link, _BUILD_TIMEOUT_S)

    def build(groups: list[tuple[Kernel, ...]]) -> list[Built]:
        batches = builder.build([_module(group, machine) for group in groups], target)
        return [_read(group, result) for group, result in zip(groups, batches, strict=True)]

    total = done + len(kernels)
    for group_list in _waves(kernels):
        for built in build(group_list):
            if built.library is None and len(built.kernels) > 1:
                yield from build([(kernel,) for kernel in built.kernels])
            else:
                yield built
            done += len(built.kernels)
            progress(done, total, f"{built.kernels[-1].task.kind}: {built.kernels[-1].variant.name}")


def _waves(kernels: list[Kernel]) -> Iterator[list[tuple[Kernel, ...]]]:
    """Lists of groups, each of kernels with weights in the same place."""
    size = _KERNELS_IN_LIBRARY * _LIBRARIES_IN_WAVE
    for start in range(0, len(kernels), size):
        wave = sorted(kernels[start : start + size], key=lambda k: (k.weights, k.task.key))
        groups: list[tuple[Kernel, ...]] = []
        for kernel in wave:
            if groups and len(groups[-1]) < _KERNELS_IN_LIBRARY and groups[-1][0].weights == kernel.weights:
                groups[-1] += (kernel,)
            else:
                groups.append((kernel,))
        yield groups


def _module(group: tuple[Kernel, ...], machine: dict[str, Any]) -> tvm.IRModule:
    lowered = {f"lowered{i}": k.task.lowered for i, k in enumerate(group) if isinstance(k.task, OpaqueTask)}
    items = [{"task": k.task.to_dict(), "variant": k.variant.name, "knobs": k.variant.knobs} for k in group]
    spec = {"machine": machine, "weights": group[0].weights, "kernels": items}
    return tvm.IRModule(lowered).with_attr("globalsel_batch", json.dumps(spec))


def _read(group: tuple[Kernel, ...], batch: BuiltBatch) -> Built:
    if batch.library is None:
        lines = [line.strip() for line in str(batch.failure).splitlines() if line.strip()]
        return Built(group, None, f"not built: {lines[-1] if lines else 'unknown error'}"[:500])
    try:
        return Built(group, batch.library.read_bytes())
    finally:
        shutil.rmtree(batch.library.parent, ignore_errors=True)
