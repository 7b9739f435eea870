"""Everything that could be measured for a network."""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.gpu import Gpu
from te_kernels.machine import Machine
from te_kernels.task import TransformTask
from tvm_globalsel.candidates import Candidates, candidates_of, transform_tasks, with_kernels
from tvm_globalsel.graph import Network, weight_bytes
from tvm_globalsel.selection import transform_candidates


@dataclass(frozen=True)
class Listing:
    """A network with everything that could be measured for it, before anything is."""

    network: Network
    found: dict[str, Candidates]
    moves: list[TransformTask]
    move_candidates: dict[str, Candidates]
    weights: str

    @property
    def everything(self) -> list[Candidates]:
        """Candidates of all tasks that take time, operators first."""
        return [with_kernels(c) for c in (*self.found.values(), *self.move_candidates.values())]


def list_candidates(network: Network, machine: Machine | Gpu) -> Listing:
    """Everything that could be measured for a network."""
    found = candidates_of(network, machine)
    moves = transform_tasks(network, found)
    weights = "cache" if weight_bytes(network) <= machine.l3_bytes // 2 else "memory"
    return Listing(network, found, moves, transform_candidates(moves, machine), weights)
