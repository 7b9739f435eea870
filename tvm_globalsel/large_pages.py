"""Activations in large pages: the module asks the system for them before its kernels touch the memory.

With pages of 4 KiB an arena of some megabytes has more pages than the TLB has entries, and under a hypervisor each miss
walks two page tables. Linux gives large pages only to those who ask (its usual setting), and only to parts of a mapping
that are aligned to them; so the arena gets a margin on both sides, which is never touched, and ``madvise`` is called on
all of it: a system call of a third of a microsecond in every inference, with an effect in the first.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from tvm_globalsel.artefacts import ASK_FOR_LARGE_PAGES

#: Before and after an arena: of whatever alignment it is, all of it lies in whole large pages.
MARGIN_BYTES = 2 << 20
#: Smaller arenas have hardly more pages than the TLB's first level has entries.
_LEAST_BYTES = 512 << 10
_PAGE_BYTES = 4096
_MADV_HUGEPAGE = 14


def margin_bytes(arena_bytes: int, target: tvm.target.Target | None) -> int:
    """What to put on each side of an arena; 0 where large pages cannot be asked for or are not worth it."""
    linux = target is not None and "linux" in str(target.attrs.get("mtriple", ""))
    return MARGIN_BYTES if linux and arena_bytes >= _LEAST_BYTES else 0


def advice(size_bytes: int) -> tvm.tirx.PrimFunc:
    """Asks for large pages for its argument, ``(size_bytes,)`` of uint8. That the system refuses changes no result."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name(ASK_FOR_LARGE_PAGES)
        memory = T.arg("memory", T.buffer((size_bytes,), "uint8"))
        page = T.Bind(tirx.call_llvm_intrin("handle", "llvm.ptrmask", T.address_of(memory[0]), T.int64(-_PAGE_BYTES)))
        T.evaluate(T.call_extern("int32", "madvise", page, T.uint64(size_bytes), T.int32(_MADV_HUGEPAGE)))
    return builder.get()
