"""Records of another machine, thread count, target or version: left alone unless the user trusts them, and said so."""

from __future__ import annotations

from collections.abc import Callable

from tvm_globalsel.log import TuningLog
from tvm_globalsel.record import Origin


def consult(log: TuningLog, mine: Origin, trusted: bool, say: Callable[[str], None]) -> None:
    """Say which records of ``log`` come from elsewhere and whether they are used; with ``trusted`` they are."""
    others = {origin: count for origin, count in log.origins().items() if origin != mine}
    if not others:
        return
    if trusted:
        log.trust(mine)
    for origin, count in others.items():
        verdict = "used where this machine has none of its own" if trusted else "not used; --trust-log uses them"
        say(f"log {log.path} holds {count} records of {origin}: {verdict}")
