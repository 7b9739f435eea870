"""How a processor gets what lies beyond L2: how fast, and from how many places at once.

Apart from :mod:`te_kernels.machine`, so that only the kernels that depend on it are new when it changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from te_kernels.machine import Machine


@dataclass(frozen=True)
class Streaming:
    """Bytes a cycle that a core gets, and the ``streams`` in which it has to ask for them.

    From L3 at its full bandwidth (``l3``), from L3 while products are computed (``l3_disturbed``), and from memory by
    all cores together (``memory``).
    """

    l3: float
    l3_disturbed: float
    memory: float
    streams: int


#: L3 close by, and a prefetcher that runs far ahead of one stream. Fitted to 200 measurements on a Zen 5 core (3.8 GHz,
#: 1 MB of L2); ``l3`` is the same on Zen 4.
_ZEN = Streaming(26.0, 14.0, 10.5, 1)
#: L3 across a mesh, and prefetchers that follow each of many streams for a page at most: an Emerald Rapids core (2.8
#: GHz, 2 MB of L2) reads 8 to 12 GB/s from one place in memory, 22 from eight, and 25 from L3.
_MESH = Streaming(9.0, 9.0, 8.0, 4)


def streaming(machine: Machine) -> Streaming:
    """Of a processor. Ours were AMD's and Intel's servers; all others are taken to be like the latter."""
    return _ZEN if machine.mcpu.startswith("znver") else _MESH
