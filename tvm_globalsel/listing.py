"""Everything that could be measured for a network."""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.gpu import Gpu
from te_kernels.machine import Machine
from te_kernels.task import TransformTask
from tvm_globalsel.candidates import Candidates, candidates_of, transform_tasks, with_kernels
from tvm_globalsel.graph import Network, weight_bytes
from tvm_globalsel.pairs import pair_up
from tvm_globalsel.selection import transform_candidates

#: Weights of at most this part of the last-level cache are still there one inference later. It is a small part because
#: others share the cache: with half of it, networks of 5 and 13 MB under 32 MB ran 11 % slower than predicted, since
#: their weights had come from memory.
_CACHED_PART = 8


@dataclass(frozen=True)
class Listing:
    """A network, its pairs marked, with everything that could be measured for it, before anything is."""

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
    network = pair_up(network, machine)
    found = candidates_of(network, machine)
    moves = transform_tasks(network, found)
    return Listing(network, found, moves, transform_candidates(moves, machine), where_weights_lie(network, machine))


def where_weights_lie(network: Network, machine: Machine | Gpu) -> str:
    """When an inference begins: in the last-level ``"cache"``, or in ``"memory"``."""
    return "cache" if weight_bytes(network) <= machine.l3_bytes // _CACHED_PART else "memory"
