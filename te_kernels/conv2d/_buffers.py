"""Buffers of kernels that are written statement by statement."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from te_kernels.tiling import cdiv


def argument(name: str, shape: tuple[int, ...]) -> Any:
    """A float32 argument of the kernel."""
    return T.arg(name, T.buffer(shape, "float32", layout=None))


def flat(buffer: Any) -> Any:
    """One-dimensional view of a buffer.

    Passes that flatten indices or study every access to an allocation take most of the build time otherwise.
    """
    return T.decl_buffer((math.prod(int(extent) for extent in buffer.shape),), "float32", data=buffer.data)


def workspace(size: int) -> Any:
    """``size`` floats of memory."""
    return flat(T.alloc_buffer((size,), "float32"))


def vector_registers(count: int, lanes: int) -> Any:
    """``count`` vectors of ``lanes`` floats in a row, which LLVM keeps in registers if every index is constant.

    It takes a stack slot by the one intrinsic that gives it: buffers of any scope end up on the heap, and from there
    values return to registers only in loops without calls, prefetches included.
    """
    pointer = T.ptr("float32", "local")
    words = cdiv(count * lanes * 4, 8)
    stack = T.Bind(tirx.call_intrin(pointer.ty, "tirx.tvm_stack_alloca", "shape", words), var=pointer)
    return T.decl_buffer((count * lanes,), "float32", data=stack, scope="local")
