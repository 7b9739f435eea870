"""Kernels to machine code: several at the same time, and each only once in a process.

LLVM takes most of the time of a compilation and works on one module in one thread, so every kernel is a module. Plans
of one network share most of their kernels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import tvm
import tvm_ffi

from tvm_globalsel.threads import thread_pool

#: Kernels that are kept.
_MOST_KEPT = 1024

_kept: OrderedDict[int, tuple[tvm.tirx.PrimFunc, tvm.runtime.Module]] = OrderedDict()
_lock = Lock()


def compile_kernels(
    functions: Mapping[tvm.ir.GlobalVar, tvm.tirx.PrimFunc], target: tvm.target.Target
) -> list[tvm.runtime.Module]:
    """A library of each function, in their order."""

    def compiled(item: tuple[tvm.ir.GlobalVar, tvm.tirx.PrimFunc]) -> tvm.runtime.Module:
        variable, function = item
        bound = function.with_attr("target", target)
        key = tvm_ffi.structural_hash(bound)
        with _lock:
            known = _kept.get(key)
        if known is not None and tvm_ffi.structural_equal(known[0], bound):
            return known[1]
        library = tvm.tirx.build(tvm.IRModule({variable: function}), target=target)
        with _lock:
            _kept[key] = bound, library
            while len(_kept) > _MOST_KEPT:
                _kept.popitem(last=False)
        return library

    with thread_pool() as pool:
        return list(pool.map(compiled, functions.items()))


def write_objects(libraries: Sequence[tvm.runtime.Module], folder: Path) -> list[str]:
    """Object files of the libraries, to be linked."""
    paths = [str(folder / f"kernel{number}.o") for number in range(len(libraries))]
    with thread_pool() as pool:
        list(pool.map(lambda library, path: library.write_to_file(path), libraries, paths))
    return paths
