"""All devices of one key as one device: batches go to whichever is free, and again when one is lost."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tvm
from tvm.support.popen_pool import PopenPoolExecutor

from te_kernels.machine import Machine
from tvm_globalsel import worker_process
from tvm_globalsel.background import scratch_folder, stopping
from tvm_globalsel.errors import UserError
from tvm_globalsel.jobs import Job, Outcome
from tvm_globalsel.remote import library, session
from tvm_globalsel.remote.tracker import Tracker
from tvm_globalsel.turn import Turn

_SESSION_S = 120
#: Waiting for a free device, and what the host does for a batch (arguments, oracles), comes on top of the session.
_WAIT_S = 120
_TRIES = 3
_CACHE = "/sys/devices/system/cpu/cpu0/cache/index{}/{}"


class RemoteDevices:
    """Devices behind a tracker that registered with one key: machines of one kind, taken to be equally fast."""

    build = staticmethod(library.build)
    export = staticmethod(library.export)

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._servers = _servers(tracker)
        self._pool: Any = None

    def describe(self, machine: Machine, target: tvm.target.Target) -> tuple[Machine, str]:
        """The machine model with the device's own cache sizes, and the device's name for the log.

        Raises :class:`UserError` when no device answers, or code for the target cannot be linked or loaded there.
        """
        names = [_CACHE.format(i, name) for i in range(4) for name in ("level", "type", "size")]
        texts = self._read_files(target, ["/proc/cpuinfo", *names])
        model = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", texts[0], re.MULTILINE)
        name = f"{model.group(1).strip()} " if model else ""
        sizes: dict[int, int] = {1: machine.l1_bytes, 2: machine.l2_bytes, 3: machine.l3_bytes}
        for level, kind, size in zip(texts[1::3], texts[2::3], texts[3::3], strict=True):
            match = re.fullmatch(r"(\d+)([KM])", size.strip())
            if match and kind.strip() in ("Data", "Unified") and level.strip() in ("1", "2", "3"):
                sizes[int(level)] = int(match.group(1)) << (10 if match.group(2) == "K" else 20)
        described = dataclasses.replace(machine, l1_bytes=sizes[1], l2_bytes=sizes[2], l3_bytes=sizes[3])
        return described, f"{name}(RPC key {self._tracker.key})"

    def start(self, scratch: Path) -> None:
        """Start a process for each device."""
        self._pool = PopenPoolExecutor(
            max_workers=self._servers, timeout=_SESSION_S + _WAIT_S,
            initializer=partial(worker_process.start, str(scratch)),
        )  # fmt: skip

    def run(self, jobs: list[Job], known: Callable[[Job], list[int]], turn: Turn) -> Iterator[tuple[Job, Outcome]]:
        """What came of each job, as they end. Devices are alone with their session, so nobody's turn is waited for."""
        pending: dict[concurrent.futures.Future[Any], tuple[Job, int]] = {}

        def submit(job: Job, attempt: int) -> None:
            skip = known(job)
            future = self._pool.submit(
                session.measure, self._tracker, str(job.library), {**job.spec, "skip": skip}, _SESSION_S
            )
            pending[future] = (job, attempt)

        for job in jobs:
            if job.failure is not None:
                yield job, job.failure
            else:
                submit(job, 1)
        while pending and not stopping():
            ended, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                job, attempt = pending.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, session.Lost):
                    _servers(self._tracker)
                    if attempt < _TRIES:
                        submit(job, attempt + 1)
                        continue
                    outcome = f"the device was lost {_TRIES} times: {outcome.message}"
                yield job, outcome

    def _read_files(self, target: tvm.target.Target, files: list[str]) -> list[str]:
        scratch = scratch_folder()
        path = Path(tempfile.mkdtemp(dir=scratch)) / library.FILE
        pool = PopenPoolExecutor(1, _WAIT_S, partial(worker_process.start, str(scratch)))
        try:
            module = tvm.tirx.build(tvm.IRModule({"read_file": library.file_reader()}), target=target)
            module.export_library(str(path))
            texts = pool.submit(session.read_files, self._tracker, str(path), files, _SESSION_S).result()
        except Exception as error:  # of the linker, of TVM, of the process
            texts = session.Lost(str(error) or type(error).__name__)
        finally:
            pool.shutdown()
        if isinstance(texts, session.Lost):
            lines = texts.message.strip().splitlines()
            raise UserError(
                f"no device with key {self._tracker.key!r} ran a first library ({lines[-1][:200] if lines else ''})",
                "is --target the devices', and a linker for it in CXX?",
            )
        return [str(text) for text in texts]


def _servers(tracker: Tracker) -> int:
    number = tracker.servers()
    if not number:
        raise UserError(
            f"the tracker {tracker.host}:{tracker.port} knows no device with key {tracker.key!r}",
            "start a server with python -m tvm.exec.rpc_server --tracker HOST:PORT --key KEY; what was measured is in "
            "the log",
        )
    return number


def _outcome(future: concurrent.futures.Future[Any]) -> Outcome | session.Lost:
    try:
        result: Outcome | session.Lost = future.result()
        return result
    except TimeoutError:
        return session.Lost("no answer in time")
    except ChildProcessError as error:  # this side's process died, of memory for example
        return str(error)
    except Exception as error:  # a fault in the code of this side, such as a variant that packs wrongly
        return f"{type(error).__name__}: {error}"
