"""The progress bar of tuning: what is being measured, how far it is, the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def tuning_progress(
    budget_s: float, verb: str = "measuring"
) -> Iterator[tuple[Callable[[int, int, str], None], Callable[[str], None]]]:
    """(progress callback, message callback) around a compilation; the bar appears when measuring starts."""
    console = Console(stderr=True, markup=False, emoji=False)
    bar = Progress(
        TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}", markup=False),
        TimeElapsedColumn(), TextColumn("{task.fields[what]}", markup=False), console=console, transient=False,
    )  # fmt: skip
    job = None
    start = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal job, start
        if total == 0:
            return
        if job is None:
            start = time.monotonic()
            job = bar.add_task(verb, total=total, what=what, left="")
            bar.start()
        if done == 0:  # a round begins
            start = time.monotonic()
        elapsed = time.monotonic() - start
        left = ""
        if done:
            left_s = min(elapsed / done * (total - done), max(0.0, budget_s - elapsed))
            left = f"about {left_s:.0f} s left"
        bar.update(job, total=total, completed=done, what=what, left=left)

    def say(text: str) -> None:
        console.print(text, highlight=False)

    try:
        yield progress, say
    finally:
        if job is not None:
            bar.stop()
