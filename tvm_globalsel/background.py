"""Run a function whose child processes must not see Ctrl-C, and stop them when the user presses it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil

_Result = TypeVar("_Result")

#: Set while TVM's pools may start workers, which inherit it: so they are told from the caller's own processes.
_MARK = "GLOBALSEL_WORKER_OF"
_SCRATCH_PREFIX = "globalsel-tuning-"
_STOP_S = 15.0

_scratch: set[Path] = set()
_stopping = threading.Event()


def exit_interrupted(code: int) -> NoReturn:
    """End the process at once, children first: threads of TVM's pools would start new ones and abort on the way out."""
    sys.stdout.flush()
    sys.stderr.flush()
    _kill(psutil.Process().children(recursive=True))
    _remove_scratch()
    os._exit(code)


def scratch_folder() -> Path:
    """A new folder for temporary files, removed at the end of the process, after Ctrl-C too.

    What processes have left that were killed meanwhile is removed as well.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_SCRATCH_PREFIX}*-*"):
        owner = left.name.removeprefix(_SCRATCH_PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)) and left.lstat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{os.getpid()}-"))
    if not _scratch:
        atexit.register(_remove_scratch)
    _scratch.add(folder)
    return folder


def stopping() -> bool:
    """Whether the user has asked the running function to end."""
    return _stopping.is_set()


def run_interruptible(function: Callable[[], _Result]) -> _Result:
    """``function()`` in a thread with SIGINT blocked, which its threads and processes inherit.

    The terminal sends Ctrl-C to the whole process group. Without this, worker processes print tracebacks, and the
    interrupt comes out of foreign code as some other exception. The calling thread stays free to receive it: it then
    ends the worker processes (and no other child of the caller's), waits for the function, which sees
    :func:`stopping`, and raises KeyboardInterrupt.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    # not Thread.join: interrupted in it, Python 3.11 takes a thread that runs for one that has ended
    ended = threading.Event()
    thread = threading.Thread(target=body, daemon=True)
    os.environ[_MARK] = str(os.getpid())
    _stopping.clear()
    thread.start()
    try:
        while not ended.wait(0.2):
            pass
    except KeyboardInterrupt:
        _stop(ended)
        raise
    finally:
        os.environ.pop(_MARK, None)
    if errors:
        raise errors[0]
    return results[0]


def _stop(ended: threading.Event) -> None:
    """End the workers, and those that TVM's pools start in their place, until the function has given up."""
    _stopping.set()
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline:
        _kill([child for child in psutil.Process().children() if _is_worker(child)])
        if ended.wait(0.1):
            return


def _is_worker(child: psutil.Process) -> bool:
    try:
        return "tvm.exec.popen_worker" in child.cmdline() and child.environ().get(_MARK) == str(os.getpid())
    except psutil.Error:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            for child in (*process.children(recursive=True), process):
                child.kill()
        except psutil.Error:
            continue


def _remove_scratch() -> None:
    for folder in list(_scratch):
        shutil.rmtree(folder, ignore_errors=True)
        _scratch.discard(folder)
