"""What the uploaded library of a batch holds beside its kernels, as generated code: no compiler needed on the device.

TVM's own ``time_evaluator`` runs a kernel once before the first timed run, and calls only preparation functions that
the server knows: weights would lie in caches where they do not lie inside a network. So the library times itself.
``timedN`` runs the probe, then ``runs`` times prepares the caches as ``worker.py`` does (evicts, runs kernel N with a
copy of its weights, writes its inputs, flushes its weights where they lie in memory) and runs kernel N between two
readings of the clock, then the probe again. ``triedN`` runs kernel N in a child process: TVM's
RPC server does not outlive a crash of its session's process.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from te_kernels.machine import Machine
from te_kernels.task import from_dict
from te_kernels.variant import from_knobs
from tvm_globalsel import batch
from tvm_globalsel.timing import RUNS_IN_BLOCK, evicted_bytes

FILE = "globalsel.so"
#: There only where weights are flushed before every run.
FLUSH = "flush"
#: Seconds after which a kernel's child process is ended: far beyond any kernel worth choosing.
TRY_TIMEOUT_S = 20
#: What a file is read into, at most (:func:`file_reader`).
READ_BYTES = 4096

_LINE_BYTES = 64
_MONOTONIC, _THREAD_CPU = 1, 3  # Linux clock ids
_DESCRIPTORS = 1024  # closed in a child, so that it cannot speak for the server when a kernel returns an error

#: Where in ``stamps`` what is found; every stamp is (seconds, nanoseconds).
PROBES_BEFORE, WALL, CPU, RUNS = (0, 2), (4, 5), (6, 7), 8
PROBES_AFTER = (RUNS + 2 * RUNS_IN_BLOCK, RUNS + 2 * RUNS_IN_BLOCK + 2)
_SINK = 2 * (PROBES_AFTER[1] + 2)
STAMPS = _SINK + 1


def build(mod: tvm.IRModule, target: tvm.target.Target) -> tvm.runtime.Module:
    """The kernels of a batch and what goes with them."""
    functions = batch.scheduled(mod, target)
    spec = json.loads(str(mod.attrs["globalsel_batch"]))
    flushed = FLUSH in functions
    evicted = evicted_bytes(Machine(**spec["machine"]), spec["weights"], flushed)
    for index, item in enumerate(spec["kernels"]):
        kernel = functions.get(f"kernel{index}")
        if kernel is None:
            continue
        inputs = len(from_knobs(item["variant"], item["knobs"]).layouts(from_dict(item["task"])).inputs)
        functions[f"tried{index}"] = _tried(f"kernel{index}", kernel)
        functions[f"timed{index}"] = _timed(f"kernel{index}", kernel, functions["probe"], inputs, evicted, flushed)
    return tvm.tirx.build(tvm.IRModule(functions), target=target)


def export(module: tvm.runtime.Module) -> str:
    """A linked library. ``CXX`` names the linker, for another instruction set than here."""
    path = Path(tempfile.mkdtemp()) / FILE
    module.export_library(str(path))
    return str(path)


def file_reader() -> tvm.tirx.PrimFunc:
    """Reads the beginning of a file of the device. Arguments: its path (bytes, ended by a zero), bytes read, count."""
    path, out, count = (
        tirx.decl_buffer((size,), dtype, name=name)
        for name, size, dtype in (("path", 256, "uint8"), ("out", READ_BYTES, "uint8"), ("count", 1, "int64"))
    )
    descriptor = tirx.Var("descriptor", "int32")
    body = [
        tirx.Bind(descriptor, _call("open", tirx.address_of(path[0]), _int(0))),
        tirx.BufferStore(count, tirx.call_extern("int64", "read", descriptor, tirx.address_of(out[0]),
                                                 tirx.const(READ_BYTES, "int64")), [_int(0)]),
        tirx.Evaluate(_call("close", descriptor)),
    ]  # fmt: skip
    return tirx.PrimFunc([path, out, count], tirx.SeqStmt(body)).with_attr("global_symbol", "read_file")


def _tried(symbol: str, kernel: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    """The kernel in a child process. Arguments: the kernel's, and its status as ``waitpid`` gives it."""
    buffers = _like(kernel, "a")
    status = tirx.decl_buffer((1,), "int32", name="status")
    child = tirx.Var("child", "int32")
    inside = [
        tirx.Evaluate(_call("alarm", _int(TRY_TIMEOUT_S))),
        _loop(_DESCRIPTORS - 3, lambda i: tirx.Evaluate(_call("close", i + 3))),
        _run(symbol, buffers),
        tirx.Evaluate(_call("_exit", _int(0))),
    ]
    body = [
        tirx.Bind(child, _call("fork")),
        tirx.IfThenElse(child == 0, tirx.SeqStmt(inside), None),
        tirx.Evaluate(_call("waitpid", child, tirx.address_of(status[0]), _int(0))),
    ]
    name = symbol.replace("kernel", "tried")
    return tirx.PrimFunc([*buffers, status], tirx.SeqStmt(body)).with_attr("global_symbol", name)


def _timed(
    symbol: str, kernel: tvm.tirx.PrimFunc, probe: tvm.tirx.PrimFunc, inputs: int, evicted: int, flushed: bool
) -> tvm.tirx.PrimFunc:
    """The kernel between clocks.

    Arguments: the kernel's, a copy of its parameters, the probe's, what to read for eviction, stamps, runs, and a
    zero, which the compiler must not know to be one: inputs are written by adding it.
    """
    buffers, probes = _like(kernel, "a"), _like(probe, "p")
    data, params = buffers[:inputs], buffers[inputs:-1]
    copies = [tirx.decl_buffer(p.shape, p.dtype, name=f"{p.name}_copy") for p in params]
    scratch = tirx.decl_buffer((evicted // 8,), "int64", name="scratch")
    stamps = tirx.decl_buffer((STAMPS,), "int64", name="stamps")
    runs, zero = tirx.Var("runs", "int32"), tirx.Var("zero", "int32")
    views: list[Any] = []

    def run(r: Any) -> Any:
        written = [_lines(_flat(b, views), lambda v, at: _write(v, at, zero)) for b in data]
        cleared = [_lines(_flat(p, views), _clear) for p in params if flushed and str(p.dtype) == "float32"]
        return tirx.SeqStmt([
            _read(scratch, stamps), _run(symbol, [*data, *copies, buffers[-1]]), *written, *cleared,
            _stamp(stamps, RUNS + 2 * r), _run(symbol, buffers), _stamp(stamps, RUNS + 2 * r + 1),
        ])  # fmt: skip

    def probed(first: Sequence[int]) -> list[Any]:
        return [s for at in first for s in (_stamp(stamps, at), _run("probe", probes), _stamp(stamps, at + 1))]

    loop = _loop(runs, run)
    body = [
        *[tirx.DeclBuffer(view, data=buffer.data) for view, buffer in views],
        *probed(PROBES_BEFORE),
        _stamp(stamps, WALL[0]), _stamp(stamps, CPU[0], _THREAD_CPU),
        loop,
        _stamp(stamps, CPU[1], _THREAD_CPU), _stamp(stamps, WALL[1]),
        *probed(PROBES_AFTER),
    ]  # fmt: skip
    function = tirx.PrimFunc([*buffers, *copies, *probes, scratch, stamps, runs, zero], tirx.SeqStmt(body))
    return function.with_attr("global_symbol", symbol.replace("kernel", "timed"))


def _read(buffer: Any, stamps: Any) -> Any:
    """Reads an integer of every cache line; the sum goes where the compiler must expect somebody to look."""
    sink = [_int(_SINK)]
    return _lines(buffer, lambda b, at: tirx.BufferStore(stamps, stamps[_SINK] + tirx.BufferLoad(b, [at]), sink))


def _write(buffer: Any, at: Any, zero: Any) -> Any:
    """Writes an element; truth values, which cannot be added to, are read and written by way of integers."""
    dtype = str(buffer.dtype)
    value = tirx.BufferLoad(buffer, [at])
    if dtype == "bool":
        return tirx.BufferStore(buffer, tirx.Cast("int32", value) + zero != _int(0), [at])
    return tirx.BufferStore(buffer, value + tirx.Cast(dtype, zero), [at])


def _clear(buffer: Any, at: Any) -> Any:
    """Writes a cache line back to memory and drops it."""
    return tirx.Evaluate(
        tirx.call_llvm_intrin("void", "llvm.x86.sse2.clflush", tirx.address_of(tirx.BufferLoad(buffer, [at])))
    )


def _lines(buffer: Any, body: Callable[[Any, Any], Any]) -> Any:
    """``body(buffer, at)`` for one element of every cache line of a vector."""
    step = max(1, _LINE_BYTES // (-(-tvm.runtime.DataType(str(buffer.dtype)).bits // 8)))
    return _loop(-(-int(buffer.shape[0]) // step), lambda i: body(buffer, i * step))


def _flat(buffer: Any, views: list[Any]) -> Any:
    """The buffer as a vector; ``views`` collects what is to be declared."""
    view = tirx.decl_buffer((math.prod(int(n) for n in buffer.shape),), buffer.dtype, name=f"{buffer.name}_flat")
    views.append((view, buffer))
    return view


def _like(function: tvm.tirx.PrimFunc, prefix: str) -> list[Any]:
    """Buffers of the shapes and types of a kernel's arguments."""
    return [tirx.decl_buffer(p.ty.shape, p.ty.dtype, name=f"{prefix}{i}") for i, p in enumerate(function.params)]


def _stamp(stamps: Any, number: Any, clock: int = _MONOTONIC) -> Any:
    return tirx.Evaluate(_call("clock_gettime", _int(clock), tirx.address_of(stamps[2 * number])))


def _run(symbol: str, buffers: list[Any]) -> Any:
    return tirx.Evaluate(tirx.call_cpacked(symbol, *buffers))


def _loop(extent: Any, body: Callable[[Any], Any]) -> Any:
    variable = tirx.Var("i", "int32")
    return tirx.For(variable, _int(0), extent if not isinstance(extent, int) else _int(extent),
                    tirx.ForKind.SERIAL, body(variable))  # fmt: skip


def _call(function: str, *arguments: Any) -> Any:
    return tirx.call_extern("int32", function, *arguments)


def _int(value: int) -> Any:
    return tirx.const(value, "int32")
