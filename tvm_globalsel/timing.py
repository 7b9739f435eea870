"""How often a kernel is timed, and when a timing counts as disturbed: the same here and on remote devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from te_kernels.machine import Machine
from te_kernels.task import ConvTask
from te_kernels.variant import Variant, all_variants

#: A kernel that needs nothing but the FMA units: timed around every block, it shows whether the machine was slowed.
PROBE_TASK = ConvTask(1, 64, 8, 56, 64, 1, 1)
PROBE_VARIANT = "direct_nhwc"
PROBE_WARM_UPS = 20

BLOCKS = 5
RUNS_IN_BLOCK = 2
#: One run of such a kernel is measurement enough.
SLOW_KERNEL_S = 0.15
#: A probe slower than this over the best one means that the machine was disturbed.
SLOWED = 1.12
_ATTEMPTS = 4
#: Two threads of a core have half of it each; a probe that is slower still was not running all the time.
_MOST_SHARED = 2.0
#: Threads hand over four times as slowly when their CPUs have no common cache; less than this is noise.
_APART = 1.8
#: How long to wait for CPUs to be near each other, and to do without that when it was in vain.
_PATIENCE_S, _POLL_S = 10.0, 0.1
#: How long to wait at once for a machine that others slow down.
_MOST_PATIENCE_S = 6.0
#: How often a moment of waiting is halved at first: an interruption is over in less than a millisecond, the work of
#: another tenant in seconds.
_HALVINGS = 7
#: The part of a time limit after which nothing is waited for: what is left suffices for any sound kernel.
_SHARE_WITH_WAITING = 0.5
#: Runs of the probe, of which the fastest counts, before the machine is said to be slowed and not just interrupted.
_PROBE_RUNS = 4
#: Rounds of the handoff probe: 0.1 ms.
HANDOFF_ROUNDS = 100


def probe_variant(machine: Machine) -> Variant:
    """The kernel of :data:`PROBE_TASK`."""
    return next(iter(all_variants()[PROBE_VARIANT].candidates(PROBE_TASK, machine)))


def evicted_bytes(machine: Machine, weights: str, can_flush: bool) -> int:
    """How much to read before every timed run, so that the weights lie where they lie inside the network.

    Where weights can be flushed to memory by themselves, the last-level cache need not be emptied for them.
    """
    return 2 * (machine.l2_bytes if weights == "cache" or can_flush else machine.l3_bytes)


class Handoff:
    """How fast threads hand over to each other, beside the best so far.

    ``kernel`` is ``probes.handoff``, built, or None for a single thread, which is never waited for.
    """

    def __init__(self, kernel: Callable[..., object] | None, arguments: Sequence[object] = ()) -> None:
        self._kernel, self._arguments = kernel, arguments
        self._best_s = math.inf
        self._resigned_until = -math.inf
        for _ in range(PROBE_WARM_UPS if kernel else 0):
            self.disturbance()

    def disturbance(self) -> float:
        """1 or less while the CPUs are as near to each other as they have been."""
        if self._kernel is None:
            return 1.0
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            self._kernel(*self._arguments)
            taken.append(time.perf_counter() - start)
        self._best_s = min(self._best_s, *taken)
        return min(taken) / self._best_s / _APART

    def wait(self, patience: Patience | None = None) -> bool:
        """Until they are, but not for long: a virtual machine's CPUs are moved apart and together every few seconds.

        False when that was in vain, now or a moment ago: the machine has changed, and what it is now is what counts.
        """
        start = time.monotonic()
        if self._kernel is None or start < self._resigned_until or (patience is not None and patience.at_end):
            return False
        while self.disturbance() > 1:
            if time.monotonic() > start + _PATIENCE_S or (patience is not None and patience.at_end):
                self._resigned_until = time.monotonic() + _PATIENCE_S
                return False
            time.sleep(_POLL_S)
        return True


class Patience:
    """How long to wait for the machine to be left alone: at most a third of all time, and never long at once."""

    def __init__(self) -> None:
        self._left_s = _MOST_PATIENCE_S
        self._since = time.monotonic()
        self._ends = math.inf

    def limit(self, timeout_s: float) -> None:
        """For work that has to end within ``timeout_s``: who waits for its result counts the waiting as time taken."""
        self._ends = time.monotonic() + _SHARE_WITH_WAITING * timeout_s

    @property
    def at_end(self) -> bool:
        """Whether no waiting is left before :meth:`limit` is called anew."""
        return time.monotonic() > self._ends

    def wait(self, waited: int = 0) -> bool:
        """A moment, if there is any patience left; a longer one after each that was ``waited`` in vain."""
        now = time.monotonic()
        self._left_s = min(_MOST_PATIENCE_S, self._left_s + (now - self._since) / 2)
        self._since = now
        moment_s = _POLL_S / 2 ** max(0, _HALVINGS - waited)
        if self._left_s < moment_s or self.at_end:
            return False
        time.sleep(moment_s)
        self._since = time.monotonic()
        self._left_s -= self._since - now
        return True


def undisturbed(
    attempt: Callable[[], tuple[float, float]], patience: Patience, quiet: Callable[[], bool] = lambda: True
) -> float:
    """Seconds of the least disturbed of several attempts; ``attempt`` gives (disturbance, seconds).

    When all were disturbed it is waited for a better moment. While the machine is not ``quiet`` nothing is attempted,
    as long as there is patience; after that once, since all further attempts would be like it.
    """
    best, attempts = (math.inf, math.nan), 0
    while True:
        waited = 0
        while not (calm := quiet()) and patience.wait(waited):
            waited += 1
        best = min(best, attempt(), key=lambda pair: pair[0])
        attempts += 1
        if best[0] <= SLOWED or not calm or (attempts >= _ATTEMPTS and not patience.wait(attempts)):
            return best[1]


def at_full_speed(seconds: float, before: float, after: float) -> float:
    """Seconds of a block on the machine as it is when left alone, from how much slower the probe ran around the block.

    A tenant of the same core slows most kernels about as much as the probe, and some machines are slowed for most of
    the time. What counts is the lesser slowness of both sides: one that came or went during the block did not slow all
    of it. Blocks of a machine that is not slowed on both sides stay as they are. Ten kernels (products, depthwise,
    pools, moves), measured 16 times each on a shared Emerald Rapids core with 9 % of the blocks disturbed, scatter by
    5.2 % with this and by 8.6 % without; undisturbed by 3.2 % either way.
    """
    lasting = min(before, after, _MOST_SHARED)
    return seconds / lasting if lasting > SLOWED else seconds


def slowdown(probe_s: Callable[[], float], best_s: float) -> tuple[float, float]:
    """(how much slower the probe runs than at best, the best seconds so far), interruptions of a moment left out."""
    taken_s = math.inf
    for _ in range(_PROBE_RUNS):
        taken_s = min(taken_s, probe_s())
        best_s = min(best_s, taken_s)
        if taken_s <= SLOWED * best_s:
            break
    return taken_s / best_s, best_s
