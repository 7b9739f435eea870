"""TVM's pool of worker processes, kept from one round of measuring to the next.

TVM's ``LocalBuilder`` starts its processes anew for every call, because theirs leaked: starting them and importing TVM
takes longer than building what a round of the search asks for. Here a process is replaced after some batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.support.popen_pool import PopenPoolExecutor, StatusKind

KernelBuild = Callable[[tvm.IRModule, tvm.target.Target], tvm.runtime.Module]
Export = Callable[[tvm.runtime.Module], str]

_BATCHES_OF_A_PROCESS = 64


def processes() -> int:
    """How many batches are built at a time."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class BuiltBatch:
    """The library of a batch, or why there is none."""

    library: Path | None
    failure: str | None


class Builder:
    """Builds batches in parallel processes.

    ``build`` makes a module of a batch and a target, ``export`` a linked library of that; ``initializer`` is called
    when a process has started.
    """

    def __init__(
        self, build: KernelBuild, export: Export, timeout_s: float, initializer: Callable[[], None] | None = None
    ) -> None:
        self._work = build, export
        self._timeout_s = timeout_s
        self._pool = PopenPoolExecutor(
            max_workers=processes(), timeout=timeout_s, initializer=initializer,
            maximum_process_uses=_BATCHES_OF_A_PROCESS,
        )  # fmt: skip

    def build(self, batches: list[tvm.IRModule], target: tvm.target.Target) -> list[BuiltBatch]:
        """In the same order. Whatever happens to a process becomes the failure of its batch."""
        work = [(*self._work, batch, target) for batch in batches]
        return [self._built(done) for done in self._pool.map_with_error_catching(_build, work)]

    def _built(self, done: Any) -> BuiltBatch:
        if done.status == StatusKind.COMPLETE:
            return BuiltBatch(Path(done.value), None)
        if done.status == StatusKind.TIMEOUT:
            return BuiltBatch(None, f"not built within {self._timeout_s:.0f} seconds")
        return BuiltBatch(None, str(done.value))


def _build(work: tuple[KernelBuild, Export, tvm.IRModule, tvm.target.Target]) -> str:
    build, export, module, target = work
    return export(build(module, target))
