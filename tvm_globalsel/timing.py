"""How often a kernel is timed, and when a timing counts as disturbed: the same here and on remote devices."""

from __future__ import annotations

from collections.abc import Callable

from te_kernels.machine import Machine
from te_kernels.task import ConvTask

#: A kernel that needs nothing but the FMA units: timed around every block, it shows whether the machine was slowed.
PROBE_TASK = ConvTask(1, 64, 8, 56, 64, 1, 1)
PROBE_VARIANT = "direct_nhwc"
PROBE_WARM_UPS = 20

BLOCKS = 5
RUNS_IN_BLOCK = 2
#: One run of such a kernel is measurement enough.
SLOW_KERNEL_S = 0.15
#: A probe slower than this over the best one means that the machine was disturbed.
_SLOWED = 1.12
_ATTEMPTS = 4


def evicted_bytes(machine: Machine, weights: str, can_flush: bool) -> int:
    """How much to read before every timed run, so that the weights lie where they lie inside the network.

    Where weights can be flushed to memory by themselves, the last-level cache need not be emptied for them.
    """
    return 2 * (machine.l2_bytes if weights == "cache" or can_flush else machine.l3_bytes)


def undisturbed(attempt: Callable[[], tuple[float, float]]) -> float:
    """Seconds of the least disturbed of several attempts; ``attempt`` gives (disturbance, seconds)."""
    best = attempt()
    for _ in range(_ATTEMPTS - 1):
        if best[0] <= _SLOWED:
            break
        best = min(best, attempt(), key=lambda pair: pair[0])
    return best[1]
