"""Whose measurements to compile from: this machine's, or those that another one sent as a log."""

from __future__ import annotations

from te_kernels.variant import Variant
from tvm_globalsel.candidates import Candidates
from tvm_globalsel.errors import UserError
from tvm_globalsel.log import Context, TuningLog
from tvm_globalsel.measure import Tuning


def choose_device(log: TuningLog, target: str, threads: int, wanted: str | None, here: str, foreign: bool) -> str:
    """The name of the device whose records count.

    ``target`` is the context's (``llvm:znver5``), ``here`` this machine's name (of a GPU: what the target calls it).
    The device that was asked for; for a ``foreign`` target (not ``host``) of which ``here`` has no measurements, the
    only one that the log knows for it; else ``here``. Raises :class:`UserError` when there are several, or when the log
    has nothing of the one that was asked for.
    """
    known = sorted({o.device for o in log.origins() if (o.target, o.threads) == (target, threads)})
    if wanted is not None:
        if wanted not in known and wanted != here:
            raise UserError(
                f"--device {wanted!r}: the tuning log has no measurements of it for {target} with {threads} thread(s)",
                f"it has some of {', '.join(map(repr, known))}" if known else "tune there first: globalsel pack-tuning",
            )
        return wanted
    if not foreign or here in known or not known:
        return here
    if len(known) > 1:
        raise UserError(
            f"the tuning log has measurements for {target} of several devices: {', '.join(map(repr, known))}",
            "say which with --device",
        )
    return known[0]


def known_of(everything: list[Candidates], log: TuningLog, context: Context) -> Tuning:
    """What the log has when nothing can be measured: ``skipped`` are the candidates that it lacks."""

    def known(candidates: Candidates, variant: Variant) -> bool:
        return log.get(context.key(candidates.task, variant)) is not None

    states = [known(candidates, variant) for candidates in everything for variant in candidates.variants]
    return Tuning(0, sum(states), 0, len(states) - sum(states), 0.0)
