"""One session on a remote device: upload a batch, try every kernel, check it here, time it there.

Runs in a process of TVM's pools (its end is then not the tuner's), where the oracle is computed too.
"""

from __future__ import annotations

import math
import signal
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from te_kernels import check
from te_kernels.machine import Machine
from te_kernels.task import OpaqueTask, Task, from_dict
from te_kernels.variant import Variant, from_knobs
from tvm_globalsel import worker
from tvm_globalsel.opaque import opaque_arguments, opaque_error
from tvm_globalsel.remote import library
from tvm_globalsel.remote.tracker import Tracker
from tvm_globalsel.timing import (
    BLOCKS,
    PROBE_TASK,
    PROBE_WARM_UPS,
    RUNS_IN_BLOCK,
    SLOW_KERNEL_S,
    Patience,
    at_full_speed,
    evicted_bytes,
    probe_variant,
    undisturbed,
)

_THREADS_MODE = 1  # of TVM's thread pool: big cores first
_MISSING = "Cannot find function"
#: Of this process, whatever the batch.
_patience = Patience()


@dataclass(frozen=True)
class Lost:
    """The session ended early: the device, its server or the network failed, or the time was over."""

    message: str


def measure(tracker: Tracker, path: str, spec: dict[str, Any], timeout_s: int) -> list[dict[str, Any]] | Lost:
    """Results of a batch, as ``worker.py`` gives them, from whatever device is free."""
    try:
        remote = _upload(tracker, path, timeout_s)
        _patience.limit(timeout_s)
        return _Batch(*remote, spec).results()
    except (RuntimeError, OSError, tvm.error.InternalError) as error:
        return Lost(str(error))


def read_files(tracker: Tracker, path: str, files: list[str], timeout_s: int) -> list[str] | Lost:
    """The beginnings of text files of a device ("" where there is none), through :func:`library.file_reader`."""
    try:
        _, module, device = _upload(tracker, path, timeout_s)
        texts = []
        for name in files:
            encoded = np.zeros(256, np.uint8)
            encoded[: len(name)] = np.frombuffer(name.encode(), np.uint8)
            out, count = np.zeros(library.READ_BYTES, np.uint8), np.zeros(1, np.int64)
            args = [tvm.runtime.tensor(array, device) for array in (encoded, out, count)]
            module["read_file"](*args)
            texts.append(bytes(args[1].numpy()[: max(0, int(args[2].numpy()[0]))]).decode(errors="replace"))
        return texts
    except (RuntimeError, OSError, tvm.error.InternalError) as error:
        return Lost(str(error))


def _upload(tracker: Tracker, path: str, timeout_s: int) -> tuple[Any, Any, Any]:
    session = tracker.session(timeout_s)
    session.upload(path, Path(path).name)
    return session, session.load_module(Path(path).name), session.cpu(0)


@dataclass
class _Kernel:
    """One kernel of the batch with its arguments on the device."""

    index: int
    task: Task
    variant: Variant
    case: check.Case | None
    args: list[Any]
    copies: list[Any]
    timed: Any = None


class _Batch:
    """All kernels of an uploaded library."""

    def __init__(self, session: Any, module: Any, device: Any, spec: dict[str, Any]) -> None:
        self._session, self._module, self._device = session, module, device
        self._spec = spec
        machine = Machine(**spec["machine"])
        self._threads = machine.threads
        self._probe = self._on_device(check.arguments(check.make_case(PROBE_TASK), probe_variant(machine)))
        evicted = evicted_bytes(machine, spec["weights"], self._has(library.FLUSH))
        self._scratch = self._send(np.ones(evicted // 8, np.int64))
        self._stamps = self._send(np.zeros(library.STAMPS, np.int64))
        self._best_probe_s = math.inf
        self._cases: dict[str, check.Case] = {}

    def results(self) -> list[dict[str, Any]]:
        """Try all kernels first: once a session has threads of its own, its child processes lack them."""
        results: list[dict[str, Any]] = [{"costs_s": []} for _ in self._spec["kernels"]]
        kernels = []
        for index, item in enumerate(self._spec["kernels"]):
            if index in self._spec.get("skip", ()):
                results[index] = worker.SKIPPED
            elif not self._has(f"kernel{index}"):
                results[index]["error"] = worker.NOT_BUILT
            else:
                kernel = self._kernel(index, item)
                error = self._try(kernel)
                if error is None:
                    kernels.append(kernel)
                else:
                    results[index]["error"] = error
        self._session.get_function("runtime.config_threadpool")(_THREADS_MODE, self._threads)
        sound = [kernel for kernel in kernels if self._check(kernel, results[kernel.index])]
        for _ in range(BLOCKS):
            for kernel in sound:
                cost_s = undisturbed(partial(self._time, kernel, RUNS_IN_BLOCK), _patience)
                results[kernel.index]["costs_s"].append(cost_s)
        return results

    def _kernel(self, index: int, item: dict[str, Any]) -> _Kernel:
        task, variant = from_dict(item["task"]), from_knobs(item["variant"], item["knobs"])
        if isinstance(task, OpaqueTask):
            arrays = [*opaque_arguments(task), np.zeros(task.out_shape, task.out_dtype)]
            copies = arrays[len(variant.layouts(task).inputs) : -1]
            return _Kernel(index, task, variant, None, *([self._send(a) for a in every] for every in (arrays, copies)))
        if task.key not in self._cases:
            self._cases[task.key] = check.make_case(task)
        case = self._cases[task.key]
        args = check.arguments(case, variant)
        copies = args[len(variant.layouts(task).inputs) : -1]
        return _Kernel(index, task, variant, case, self._on_device(args), self._on_device(copies))

    def _try(self, kernel: _Kernel) -> str | None:
        """What ended the kernel's child process, or None when it ended well."""
        status = self._send(np.zeros(1, np.int32))
        self._module[f"tried{kernel.index}"](*kernel.args, status)
        value = int(status.numpy()[0])
        number = value & 0x7F
        if number == signal.SIGALRM:
            return f"Timeout, killed after {library.TRY_TIMEOUT_S} seconds"
        if number:
            return f"the kernel's process was terminated by signal {number} ({signal.strsignal(number)})"
        return f"the kernel returned an error (exit code {value >> 8})" if value else None

    def _check(self, kernel: _Kernel, result: dict[str, Any]) -> bool:
        """Run once with threads, compare; whether the kernel is to be timed further."""
        kernel.timed = self._module[f"timed{kernel.index}"]
        if self._best_probe_s == math.inf:
            for _ in range(PROBE_WARM_UPS // 4):
                self._time(kernel, 0)
        _, single_s = self._time(kernel, 1)
        if kernel.case is not None:
            error = check.relative_error(kernel.case, kernel.variant, kernel.args)
        else:
            expected = self._send(np.zeros_like(kernel.args[-1].numpy()))
            self._module[f"oracle{kernel.index}"](*kernel.args[:-1], expected)
            error = opaque_error(kernel.args[-1].numpy(), expected.numpy())
        result["relative_error"] = error if math.isfinite(error) else None
        wrong = worker.wrong_result(error, kernel.task, kernel.variant)
        if wrong is not None:
            result["error"] = wrong
        elif single_s > SLOW_KERNEL_S:
            result["costs_s"] = [single_s]
        return not result.get("error") and not result["costs_s"]

    def _time(self, kernel: _Kernel, runs: int) -> tuple[float, float]:
        """(disturbance, median seconds of the runs at full speed)."""
        kernel.timed(*kernel.args, *kernel.copies, *self._probe, self._scratch, self._stamps, runs, 0)
        stamps = self._stamps.numpy()[: 2 * (library.PROBES_AFTER[1] + 2)].reshape(-1, 2)

        def between(first: int, last: int) -> float:
            seconds, nanoseconds = (stamps[last] - stamps[first]).tolist()
            return float(seconds + 1e-9 * nanoseconds)

        before, after = (
            min(between(at, at + 1) for at in pair) for pair in (library.PROBES_BEFORE, library.PROBES_AFTER)
        )
        self._best_probe_s = min(self._best_probe_s, before, after)
        if not runs:
            return max(before, after) / self._best_probe_s, 0.0
        before, after = before / self._best_probe_s, after / self._best_probe_s
        shared = between(*library.WALL) / max(between(*library.CPU), 1e-9)
        costs = [between(library.RUNS + 2 * r, library.RUNS + 2 * r + 1) for r in range(runs)]
        return max(before, after, shared), at_full_speed(statistics.median(costs), before, after)

    def _has(self, name: str) -> bool:
        try:
            return self._module[name] is not None
        except (AttributeError, RuntimeError, ValueError) as error:
            if _MISSING in str(error) or isinstance(error, AttributeError):
                return False
            raise

    def _send(self, array: np.ndarray) -> Any:
        return tvm.runtime.tensor(array, self._device)

    def _on_device(self, args: list[Any]) -> list[Any]:
        return [self._send(arg.numpy()) for arg in args]
