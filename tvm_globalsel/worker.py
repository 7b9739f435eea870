"""What runs in TVM's runner process: check the kernels of a batch (``batch.py``) and time them.

A batch travels as a JSON text. Its kernels are timed in turns (A B C A B C ...), each block between two
runs of a probe kernel that needs nothing but the FMA units: blocks measured while the machine was slowed are repeated.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.s_tir import meta_schedule as ms

from te_kernels import check, probes
from te_kernels.machine import Machine
from te_kernels.task import OpaqueTask, Task, from_dict
from te_kernels.variant import Variant, from_knobs
from tvm_globalsel.large_pages import large_pages
from tvm_globalsel.opaque import opaque_arguments, opaque_error
from tvm_globalsel.timing import (
    BLOCKS,
    PROBE_TASK,
    PROBE_WARM_UPS,
    RUNS_IN_BLOCK,
    SLOW_KERNEL_S,
    SLOWED,
    Handoff,
    Patience,
    at_full_speed,
    evicted_bytes,
    probe_variant,
    slowdown,
    undisturbed,
)

#: The result of a kernel whose measurement is in the log already, and the error of one whose schedule failed.
SKIPPED: dict[str, Any] = {"skipped": True}
NOT_BUILT = "not built"

#: Inputs and oracles that are kept: those of a middling network.
_CASES_BYTES = 1 << 28

_best_probe_s = math.inf
_handoffs: dict[int, Handoff] = {}
_patience = Patience()


def allocate(device: Any, args_info: Any, alloc_repeat: int) -> list[list[str]]:
    """TVM runner's ``f_alloc_argument``: hands the batch through; each kernel allocates its own arguments."""
    _, _, codes = args_info[0]
    return [[bytes(codes).decode()]]


def text_to_args(text: str) -> list[ms.arg_info.TensorInfo]:
    """A text as the argument description of a RunnerInput: TVM's runner passes nothing else to its process."""
    return [ms.arg_info.TensorInfo("uint8", list(text.encode()))]


def results_from_floats(codes: list[float]) -> list[dict[str, Any]]:
    """Inverse of what :func:`evaluate` returns: TVM's runner passes nothing but floats back."""
    results: list[dict[str, Any]] = json.loads(bytes(int(code) for code in codes).decode())
    return results


def evaluate(module: Any, device: Any, config: Any, repeated_args: list[list[str]]) -> list[float]:
    """TVM runner's ``f_run_evaluator``: check every kernel of the batch against its oracle, then time it."""
    results = evaluate_kernels(module, device, json.loads(repeated_args[0][0]))
    return [float(code) for code in json.dumps(results).encode()]


def evaluate_kernels(module: Any, device: Any, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Check every kernel of a library against its oracle, then time it, but for those of ``skip``.

    With ``timeout_s`` it leaves itself time enough, however long it would wait for a better moment.
    """
    _patience.limit(spec.get("timeout_s", math.inf))
    machine = Machine(**spec["machine"])
    here = Machine(**{**spec["machine"], **spec.get("caches", {})})  # tuned elsewhere than where it was built
    probe = _Probe(module, machine)
    results: list[dict[str, Any]] = []
    timed: list[tuple[int, Any, Any, list[Callable[[], object]]]] = []
    for index, item in enumerate(spec["kernels"]):
        result: dict[str, Any] = {"costs_s": []}
        results.append(result)
        if index in spec.get("skip", ()):
            results[index] = SKIPPED
            continue
        if not module.implements_function(f"kernel{index}", True):
            result["error"] = NOT_BUILT
            continue
        variant = from_knobs(item["variant"], item["knobs"])
        args, error, single_s = _check(module, index, item["task"], variant)
        result["relative_error"] = error if math.isfinite(error) else None
        wrong = wrong_result(error, from_dict(item["task"]), variant)
        if wrong is not None:
            result["error"] = wrong
            continue
        if single_s > SLOW_KERNEL_S:
            result["costs_s"] = [single_s]
            continue
        evaluator = module.time_evaluator(
            f"kernel{index}", device, number=1, repeat=RUNS_IN_BLOCK, f_preproc="globalsel.prepare_caches"
        )
        data_inputs = len(variant.layouts(from_dict(item["task"])).inputs)
        steps = _steps(module, index, args, data_inputs, spec["weights"])
        timed.append((index, evaluator, args, steps))
    can_flush = module.implements_function("flush", True)
    scratch_bytes = evicted_bytes(here, spec["weights"], can_flush)
    for _ in range(BLOCKS):
        for index, evaluator, args, steps in timed:
            _caches.expect(scratch_bytes, steps)
            results[index]["costs_s"].append(
                probe.undisturbed(lambda e=evaluator, a=args: float(np.median(list(e(*a).results))))
            )
    return results


def wrong_result(error: float, task: Task, variant: Variant) -> str | None:
    """What to log of a kernel with this relative error, or None when its variant may have it."""
    allowed = variant.error_bound(task)
    if error <= allowed:
        return None
    shown = f"{error:.2e}" if math.isfinite(error) else "not finite"
    return f"wrong result: relative error {shown}, allowed {allowed:.1e}"


def _steps(module: Any, index: int, args: Any, data_inputs: int, weights: str) -> list[Callable[[], object]]:
    """What precedes every timed run of a kernel, see :class:`_Caches`."""
    inputs, params = args[:data_inputs], args[data_inputs:-1]
    rehearsal = [*inputs, *(_in_large_pages(param) for param in params), args[-1]]
    kernel = module[f"kernel{index}"]
    written = [np.from_dlpack(tensor) for tensor in inputs]
    steps: list[Callable[[], object]] = [lambda: kernel(*rehearsal)]
    steps += [functools.partial(np.maximum, array, array, out=array) for array in written]
    if weights == "memory" and module.implements_function("flush", True):
        flat = [tvm.runtime.from_dlpack(np.from_dlpack(p).reshape(-1)) for p in params if p.dtype == "float32"]
        steps += [functools.partial(module["flush"], tensor) for tensor in flat]
    return steps


class _Caches:
    """Puts the caches into the state in which a kernel finds them inside a network, before every timed run.

    Activations were written a moment ago by the neighbours, whose workspace and code are the same as this kernel's.
    The weights were last used one inference ago, so they are in the last-level cache at best, and in memory when the
    network's weights do not fit there. So the second-level cache is emptied, the kernel runs once with a copy of its
    weights, its inputs are written (what was only read is not kept by a last-level cache that takes in victims), and
    its own weights are flushed to memory. Measured in a loop instead, kernels look up to twice as fast as they are.
    """

    def __init__(self) -> None:
        self._scratch = np.zeros(0, np.int64)
        self._steps: list[Callable[[], object]] = []

    def expect(self, scratch_bytes: int, steps: list[Callable[[], object]]) -> None:
        """For the next runs: how much to read in order to evict, and what to do after that."""
        if self._scratch.nbytes != scratch_bytes:
            self._scratch = np.ones(scratch_bytes // 8, np.int64)
        self._steps = steps

    def prepare(self, *args: Any) -> None:
        """Evict, then the steps."""
        self._scratch.sum()
        for step in self._steps:
            step()


_caches = _Caches()
tvm_ffi.register_global_func("globalsel.prepare_caches", _caches.prepare, override=True)


_cases: dict[str, check.Case] = {}


def _case(task: Task) -> check.Case:
    """Inputs and oracle of a task; the last ones are kept, because many variants of one task are measured."""
    found = _cases.pop(task.key, None) or check.make_case(task)
    while _cases and sum(case.nbytes for case in _cases.values()) + found.nbytes > _CASES_BYTES:
        _cases.pop(next(iter(_cases)))  # the one not used for longest
    _cases[task.key] = found
    return found


def _check(module: Any, index: int, data: dict[str, Any], variant: Variant) -> tuple[Any, float, float]:
    """(arguments, relative error, seconds of one warm run)."""
    task = from_dict(data)
    kernel = module[f"kernel{index}"]
    if isinstance(task, OpaqueTask):
        return _check_opaque(module, index, task)
    case = _case(task)
    args = check.arguments(case, variant)
    params = slice(len(variant.layouts(task).inputs), -1)
    args[params] = map(_in_large_pages, args[params])  # where a deployed network's are
    first = _seconds(kernel, args)
    error = check.relative_error(case, variant, args)
    return args, error, first if first > SLOW_KERNEL_S else _seconds(kernel, args)


def _in_large_pages(tensor: Any) -> Any:
    """A copy."""
    source = np.from_dlpack(tensor)
    copy = np.frombuffer(large_pages(source.nbytes), source.dtype).reshape(source.shape)
    copy[...] = source
    return tvm.runtime.from_dlpack(copy)


def _check_opaque(module: Any, index: int, task: OpaqueTask) -> tuple[Any, float, float]:
    args = [tvm.runtime.tensor(array) for array in opaque_arguments(task)]
    out, oracle = (tvm.runtime.empty(task.out_shape, task.out_dtype) for _ in range(2))
    module[f"oracle{index}"](*args, oracle)
    first = _seconds(module[f"kernel{index}"], [*args, out])
    error = opaque_error(out.numpy(), oracle.numpy())
    return [*args, out], error, first if first > SLOW_KERNEL_S else _seconds(module[f"kernel{index}"], [*args, out])


def _seconds(function: Any, args: list[Any]) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def _handoff(module: Any, threads: int) -> Handoff:
    """That of the process's first batch: it knows how fast threads have been."""
    if threads not in _handoffs:
        kernel = module["handoff"] if module.implements_function("handoff", True) else None
        _handoffs[threads] = Handoff(kernel, probes.handoff_arguments(threads) if kernel else ())
    return _handoffs[threads]


class _Probe:
    """Times blocks between two runs of the probe kernel and repeats those measured on a slowed machine."""

    def __init__(self, module: Any, machine: Machine) -> None:
        self._args = check.arguments(_case(PROBE_TASK), probe_variant(machine))
        self._kernel = module["probe"]
        for _ in range(PROBE_WARM_UPS):
            self._ratio()
        self._handoff = _handoff(module, machine.threads)

    def _ratio(self) -> float:
        global _best_probe_s
        ratio, _best_probe_s = slowdown(lambda: _seconds(self._kernel, self._args), _best_probe_s)
        return ratio

    def undisturbed(self, block: Any) -> float:
        """Seconds of ``block`` at full speed; of several attempts the one with the least disturbed probes around it."""

        def attempt() -> tuple[float, float]:
            near = self._handoff.wait(_patience)
            before = self._ratio()
            wall_s, cpu_s = time.perf_counter(), time.thread_time()
            cost_s = float(block())
            wall_s, cpu_s = time.perf_counter() - wall_s, time.thread_time() - cpu_s
            # the probe sees a slowed core, the clocks a core shared with another process
            apart = self._handoff.disturbance() if near else 1.0
            after = self._ratio()
            disturbance = max(before, after, wall_s / max(cpu_s, 1e-9), apart)
            return disturbance, at_full_speed(cost_s, before, after)

        return undisturbed(attempt, _patience, lambda: self._ratio() <= SLOWED)
