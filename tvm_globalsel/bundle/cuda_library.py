"""What runs in TVM's builder for a GPU: schedule a batch of kernels and build them into one library."""

from __future__ import annotations

import json

import tvm

from te_kernels.gpu import Gpu
from te_kernels.task import OpaqueTask
from te_kernels.variant import from_knobs
from tvm_globalsel import build_cuda
from tvm_globalsel.batch import task_of


def build_batch(mod: tvm.IRModule, target: tvm.target.Target) -> tvm.runtime.Module:
    """As ``batch.build_batch``, with the oracles of opaque operators built for the host."""
    spec = json.loads(str(mod.attrs["globalsel_batch"]))
    machine = Gpu(**spec["machine"])
    lowered = {gv.name_hint: func for gv, func in mod.functions.items()}
    functions, oracles = {}, {}
    for index, item in enumerate(spec["kernels"]):
        try:
            task = task_of(item["task"], lowered.get(f"lowered{index}"))
            functions[f"kernel{index}"] = from_knobs(item["variant"], item["knobs"]).prim_func(task, machine)
        except Exception as error:
            if len(spec["kernels"]) == 1:  # alone: let the builder report it
                raise RuntimeError(f"schedule failed: {type(error).__name__}: {error}") from error
            continue
        if isinstance(task, OpaqueTask):
            oracles[f"oracle{index}"] = task.lowered.with_attr("global_symbol", f"oracle{index}")
    library = build_cuda.build_kernels(functions, target)
    if oracles:
        library.import_module(tvm.tirx.build(tvm.IRModule(oracles), target=target.host or tvm.target.Target("llvm")))
    return library
