"""What travels between the measurer and devices: built batches of kernels, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tvm_globalsel.builder import Export, KernelBuild
from tvm_globalsel.turn import Turn

#: One result a kernel (see ``worker.py``), or the message of what took the whole batch down.
Outcome = list[dict[str, Any]] | str


@dataclass(frozen=True)
class Job:
    """Batch ``number`` of a wave: its kernels' description for the device and the library, or why there is none."""

    number: int
    spec: dict[str, Any]
    library: Path | None
    failure: str | None

    @property
    def kernels(self) -> int:
        """How many there are."""
        return len(self.spec["kernels"])


class Device(Protocol):
    """One device, or several of a kind.

    ``build`` and ``export`` are the builder's: what a batch's library holds, and how it is linked.
    """

    @property
    def build(self) -> KernelBuild:
        """Kernels of a batch to a module."""

    @property
    def export(self) -> Export:
        """Module to a file."""

    def start(self, scratch: Path) -> None:
        """Before the first job; ``scratch`` is for temporary files."""

    def run(self, jobs: list[Job], known: Callable[[Job], list[int]], turn: Turn) -> Iterator[tuple[Job, Outcome]]:
        """What came of each job, in any order. ``known`` says which kernels of a job need no measuring any more."""
