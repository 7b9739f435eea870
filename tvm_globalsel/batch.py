"""A batch of kernels as one library: what runs in TVM's builder processes.

A batch travels as an empty module with a JSON text. Beside its kernels, a library holds what times them: a probe kernel
that needs nothing but the FMA units, the handoff between threads, and the flush of weights to memory.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from te_kernels import probes
from te_kernels.machine import Machine
from te_kernels.task import OpaqueTask, Task, from_dict
from te_kernels.variant import from_knobs
from tvm_globalsel.timing import HANDOFF_ROUNDS, PROBE_TASK, probe_variant

#: Measured kernels get the arguments that they were made for. To check each one's type, shape, strides and alignment is
#: ten times the code of a call, and a sixth of the time to build a kernel; what is deployed checks them.
_UNCHECKED = {"tirx.disable_assert": True}

_Functions = dict[str, tvm.tirx.PrimFunc]


def build_batch(mod: tvm.IRModule, target: tvm.target.Target) -> tvm.runtime.Module:
    """The module carries the batch as an attribute; a kernel that fails is left out."""
    kernels = _kernels(mod)
    with tvm.transform.PassContext(config=_UNCHECKED):
        built = tvm.tirx.build(tvm.IRModule(kernels), target=target)
    built.import_module(_timing_library(*_timing_of(mod), target))
    return built


def link(module: tvm.runtime.Module) -> str:
    """A library in a folder of its own."""
    path = Path(tempfile.mkdtemp(prefix="globalsel-")) / "kernels.so"
    module.export_library(str(path), options=["-s"])
    return str(path)


def scheduled(mod: tvm.IRModule, target: tvm.target.Target) -> _Functions:
    """The functions of a batch: ``probe``, ``handoff``, ``flush``, ``kernelN``, ``oracleN`` of opaque ones.

    A kernel whose schedule fails is left out; if it is alone, RuntimeError tells why.
    """
    return {**_timing(*_timing_of(mod), target), **_kernels(mod)}


def _spec(mod: tvm.IRModule) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(str(mod.attrs["globalsel_batch"]))
    return spec


def _kernels(mod: tvm.IRModule) -> _Functions:
    spec = _spec(mod)
    machine = Machine(**spec["machine"])
    opaque = {gv.name_hint: func for gv, func in mod.functions.items()}
    functions = {}
    for index, item in enumerate(spec["kernels"]):
        try:
            task = task_of(item["task"], opaque.get(f"lowered{index}"))
            func = from_knobs(item["variant"], item["knobs"]).prim_func(task, machine)
        except Exception as error:
            if len(spec["kernels"]) == 1:  # alone: let the builder report it
                raise RuntimeError(f"schedule failed: {type(error).__name__}: {error}") from error
            continue
        functions[f"kernel{index}"] = func.with_attr("global_symbol", f"kernel{index}")
        if isinstance(task, OpaqueTask):
            functions[f"oracle{index}"] = task.lowered.with_attr("global_symbol", f"oracle{index}")
    return functions


def task_of(data: dict[str, Any], lowered: Any) -> Task:
    """A task from its JSON form; an opaque one gets its lowering back."""
    task = from_dict(data)
    return dataclasses.replace(task, lowered=lowered) if isinstance(task, OpaqueTask) else task


def _timing_of(mod: tvm.IRModule) -> tuple[Machine, str]:
    """What the functions that time a batch depend on: the machine, and where the weights lie."""
    spec = _spec(mod)
    return Machine(**spec["machine"]), spec["weights"]


def _timing(machine: Machine, weights: str, target: tvm.target.Target) -> _Functions:
    functions = {"probe": probe_variant(machine).prim_func(PROBE_TASK, machine)}
    if machine.threads > 1:
        functions["handoff"] = probes.handoff(machine.threads, HANDOFF_ROUNDS)
    if weights == "memory" and codegen.target_has_features("sse2", target):
        functions["flush"] = probes.flush(target)
    return {name: func.with_attr("global_symbol", name) for name, func in functions.items()}


_timing_libraries: dict[tuple[Machine, str, str], tvm.runtime.Module] = {}


def _timing_library(machine: Machine, weights: str, target: tvm.target.Target) -> tvm.runtime.Module:
    """As machine code, once in a process: it takes as long as a kernel to build."""
    key = (machine, weights, str(target))
    if key not in _timing_libraries:
        functions = _timing(machine, weights, target)
        built = tvm.tirx.build(tvm.IRModule(functions), target=target)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "timing.o")
            built.write_to_file(path, "o")
            _timing_libraries[key] = tvm.runtime.load_static_library(path, list(functions))
    return _timing_libraries[key]
