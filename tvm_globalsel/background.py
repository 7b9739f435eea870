"""Run a function whose child processes must not see Ctrl-C, and stop them when the user presses it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

import psutil

_Result = TypeVar("_Result")


def exit_interrupted(code: int) -> NoReturn:
    """End the process at once, children first: threads of TVM's pools would start new ones and abort on the way out."""
    sys.stdout.flush()
    sys.stderr.flush()
    _kill_children()
    os._exit(code)


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def run_interruptible(function: Callable[[], _Result]) -> _Result:
    """``function()`` in a thread with SIGINT blocked, which its threads and processes inherit.

    The terminal sends Ctrl-C to the whole process group. Without this, worker processes print tracebacks, and the
    interrupt comes out of foreign code as some other exception. The calling thread stays free to receive it: it then
    ends the child processes and raises KeyboardInterrupt.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
    except KeyboardInterrupt:
        _kill_children()
        raise
    if errors:
        raise errors[0]
    return results[0]
