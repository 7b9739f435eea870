"""Rewriting of scheduled TIR, for what no schedule primitive does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import s_tir, tirx


def changed(func: tvm.tirx.PrimFunc, change: Callable[[Any], Any]) -> tvm.tirx.PrimFunc:
    """``change`` applied to every loop and block, from the innermost outwards."""

    def visit(s: Any) -> Any:
        if isinstance(s, tirx.SeqStmt):
            return tirx.SeqStmt([visit(one) for one in s.seq])
        if isinstance(s, tirx.For):
            return change(with_loop_body(s, visit(s.body), s.annotations))
        if isinstance(s, s_tir.SBlockRealize):
            return change(realized(s, with_body(s.block, visit(s.block.body), s.block.alloc_buffers)))
        return s

    return tirx.PrimFunc(func.params, visit(func.body), func.ret_type, func.attrs)


def realize(statement: Any) -> Any:
    """The block inside of a nest of loops."""
    while not isinstance(statement, s_tir.SBlockRealize):
        statement = statement.body
    return statement


def realized(statement: Any, block: Any) -> Any:
    """Another block in the same place."""
    return s_tir.SBlockRealize(statement.iter_values, statement.predicate, block)


def with_body(block: Any, body: Any, buffers: Any) -> Any:
    """A block with another body and other buffers of its own."""
    return s_tir.SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body,
        block.init, buffers, block.match_buffers, block.annotations,
    )  # fmt: skip


def with_loop_body(loop: Any, body: Any, annotations: Any) -> Any:
    """A loop with another body and other annotations."""
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, annotations, loop.step)


def without_annotation(loop: Any, name: str) -> Any:
    """A loop that lost one of its annotations."""
    others = {key: value for key, value in loop.annotations.items() if key != name}
    return with_loop_body(loop, loop.body, others)
