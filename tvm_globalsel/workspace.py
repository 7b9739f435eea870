"""Scratch memory of GPU kernels as outputs of their calls, so that the memory planner owns it.

A kernel's own allocation comes from a pool that may free a page to get a larger one. A CUDA graph captured before
that would write to freed memory ever after; what the planner allocates lives as long as the graph.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, s_tir


def hoisted(func: tvm.tirx.PrimFunc) -> tuple[tvm.tirx.PrimFunc, list[Any]]:
    """The kernel with its global scratch buffers as last parameters, and their Relax types; none: unchanged."""
    realize = func.body
    if not isinstance(realize, s_tir.SBlockRealize):
        return func, []
    root = realize.block
    moved = [buffer for buffer in root.alloc_buffers if buffer.scope() in ("", "global")]
    if not moved:
        return func, []
    kept = [buffer for buffer in root.alloc_buffers if buffer.scope() not in ("", "global")]
    block = s_tir.SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, root.body, root.init, kept, root.match_buffers,
        root.annotations,
    )  # fmt: skip
    body = s_tir.SBlockRealize(realize.iter_values, realize.predicate, block)
    types = [relax.TensorType([int(size) for size in buffer.shape], str(buffer.dtype)) for buffer in moved]
    return tvm.tirx.PrimFunc([*func.params, *moved], body, func.ret_type, func.attrs), types
