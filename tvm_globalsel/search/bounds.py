"""A sound lower bound of every candidate's time: the roofline of the measured machine.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures" (CACM
2009). No kernel does its multiply-adds faster than the FMA probe, touches its inputs and its output faster than the
fastest cache level delivers, nor its constants faster than the level in which they lie: measuring evicts them from L2
(``weights == "cache"``) or from L3 (``"memory"``, see ``worker.py``). The three overlap at best, so the bound is their
maximum. The rates are measured once a machine and kept in the tuning log as records of a task kind of their own.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import tvm

from te_kernels.machine import Machine
from te_kernels.task import ConvTask, OpaqueTask, PoolTask, Task, ViewTask
from te_kernels.variant import Variant
from tvm_globalsel.log import Context, TuningLog, machine_record

_FLOAT_BYTES = 4
#: Part of the measured rates that is granted on top, because probes do not reach the limit to the last per cent.
_MARGIN = 1.05
#: Part of the constants that an eviction may leave behind in the level above.
_LEFT_BEHIND = 0.25
_PROBE_TURNS, _PROBE_BLOCKS = 3, 3
#: A block that reads memory lasts tens of milliseconds, of which the median need not be taken.
_MEMORY_BLOCKS = 1
#: What is measured, and the unit in which one record's cost is counted.
_PROBES = {"fma": "flop", "L1": "byte", "L3": "byte", "DRAM": "byte"}


@dataclass(frozen=True)
class Rates:
    """Seconds of all threads together for one unit of each resource, at best."""

    flop_s: float
    near_byte_s: float
    l3_byte_s: float
    memory_byte_s: float

    def bound_s(self, units: np.ndarray) -> np.ndarray:
        """Seconds below which no candidate can come that needs ``units`` (``(..., 4)``, see :func:`units`)."""
        found: np.ndarray = (units * dataclasses.astuple(self)).max(axis=-1)
        return found

    def raised(self, units: np.ndarray, measured_s: np.ndarray) -> Rates:
        """Rates that no measured kernel contradicts: the probes may have run at a bad moment. NaN is not measured."""
        shown = np.full(units.shape, np.inf)
        np.divide(measured_s[:, None], units, out=shown, where=np.isfinite(measured_s)[:, None] & (units > 0))
        return Rates(*map(float, np.minimum(dataclasses.astuple(self), shown.min(axis=0, initial=np.inf))))


def units(task: Task, variant: Variant, weights: str) -> np.ndarray:
    """``(4,)`` FLOPs and bytes from near, from L3 and from memory that it cannot do without.

    ``weights`` as in :class:`Context`.
    """
    if isinstance(task, ViewTask):
        return np.zeros(4)
    constants = _constant_bytes(task) * (1 - _LEFT_BEHIND)
    far = (constants, 0.0) if weights == "cache" else (0.0, constants)
    return np.array([variant.arithmetic(task), _data_bytes(task), *far], dtype=np.float64)


def _constant_bytes(task: Task) -> int:
    """The model's own constants; an algorithm may need them in a larger form."""
    return 0 if isinstance(task, OpaqueTask) else _FLOAT_BYTES * sum(math.prod(shape) for shape in task.param_shapes)


def _data_bytes(task: Task) -> int:
    """Bytes of inputs and output that no algorithm can leave alone."""
    output = math.prod(task.output_shape)
    if isinstance(task, OpaqueTask):  # it may gather, so that most of its inputs are never read
        return output * np.dtype(task.out_dtype).itemsize
    inputs = [math.prod(shape) for shape in task.input_shapes]
    if isinstance(task, ConvTask | PoolTask):  # a stride beyond the window skips pixels
        inputs[0] = task.n * task.c * min(task.h, task.oh * task.r) * min(task.w, task.ow * task.s)
    return _FLOAT_BYTES * (sum(inputs) + output)


def machine_rates(log: TuningLog, target: tvm.target.Target, machine: Machine, context: Context) -> Rates:
    """From the log, or measured now (a few seconds) and logged."""
    revision = f"{machine.l1_bytes}-{machine.l2_bytes}-{machine.l3_bytes}"
    blank = {name: machine_record(context, name, unit, revision, ()) for name, unit in _PROBES.items()}
    known = {name: log.get(record.key) for name, record in blank.items()}
    if not all(record is not None and 0 < record.cost_s < math.inf for record in known.values()):
        measured = _measure(target, machine)
        records = {
            name: machine_record(context, name, unit, revision, (measured[name],)) for name, unit in _PROBES.items()
        }
        log.append(list(records.values()))
        known = {**records}
    seconds = [record.cost_s for record in known.values() if record is not None]
    return Rates(*(value / _MARGIN / machine.threads for value in seconds))


def _measure(target: tvm.target.Target, machine: Machine) -> dict[str, float]:
    """Seconds of one thread per FLOP and per byte of each level."""
    from tvm_globalsel.bench.gauge import Gauge, probed_bytes  # compiles its probe

    gauge = Gauge(target, machine)

    def byte_s(level: str) -> float:
        # the best of several: on a shared machine memory is at times slower by half
        blocks = _MEMORY_BLOCKS if level == "DRAM" else _PROBE_BLOCKS
        return 1e-9 / gauge.bandwidth(level, probed_bytes(machine, level), _PROBE_TURNS, blocks).best_gbs

    return {"fma": 1e-9 / gauge.peak_gflops, **{level: byte_s(level) for level in _PROBES if level != "fma"}}
