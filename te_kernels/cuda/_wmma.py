"""The five tensor-core instructions that a float16 product needs, as tensor intrinsics of s_tir.

TVM registers the same among some hundred others (``tvm.s_tir.tensor_intrin.cuda``), whose import takes more than 20 s
of every process that schedules kernels; these take less than one. Each is a pair: what the instruction means, which
the scheduler matches against the loops it replaces, and the call that it becomes. A fragment is 16 x 16 in all of them.
"""

from __future__ import annotations

import functools
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

_F = 16
_PREFIX = "globalsel_wmma_f16_f32_"


def _index(buffer: Any, stride: Any) -> Any:
    """Which fragment of an array of fragments a region is."""
    return buffer.elem_offset // stride // _F * (stride // _F) + buffer.elem_offset % stride // _F


def _load(scope: str) -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def meaning(a: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (_F, _F), "float16", align=64, offset_factor=_F, scope="shared.dyn")
        C = T.match_buffer(c, (_F, _F), "float16", align=64, offset_factor=_F, scope=scope)
        with T.sblock("root"):
            T.reads(A[0:_F, 0:_F])
            T.writes(C[0:_F, 0:_F])
            for i, j in T.grid(_F, _F):
                with T.sblock("load"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = A[vi, vj]

    @T.prim_func(s_tir=True)
    def call(a: T.handle, c: T.handle) -> None:
        s1, s0, d1, d0 = T.int32(), T.int32(), T.int32(), T.int32()
        A = T.match_buffer(a, (_F, _F), "float16", align=64, offset_factor=_F, scope="shared.dyn", strides=[s1, s0])
        C = T.match_buffer(c, (_F, _F), "float16", align=64, offset_factor=_F, scope=scope, strides=[d1, d0])
        with T.sblock("root"):
            T.reads(A[0:_F, 0:_F])
            T.writes(C[0:_F, 0:_F])
            T.evaluate(
                T.tvm_load_matrix_sync(
                    C.data, _F, _F, _F, _index(C, d1), A.access_ptr("r", ptr_type="float16"), s1, "row_major",
                    dtype="void",
                )
            )  # fmt: skip

    return meaning, call


def _fill() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def meaning(c: T.handle) -> None:
        C = T.match_buffer(c, (_F, _F), "float32", align=64, offset_factor=_F, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:_F, 0:_F])
            for i, j in T.grid(_F, _F):
                with T.sblock("init"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = T.float32(0)

    @T.prim_func(s_tir=True)
    def call(c: T.handle) -> None:
        d1, d0 = T.int32(), T.int32()
        C = T.match_buffer(
            c, (_F, _F), "float32", align=64, offset_factor=_F, scope="wmma.accumulator", strides=[d1, d0]
        )
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:_F, 0:_F])
            T.evaluate(T.tvm_fill_fragment(C.data, _F, _F, _F, _index(C, d1), T.float32(0), dtype="void"))

    return meaning, call


def _store() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def meaning(a: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (_F, _F), "float32", align=64, offset_factor=_F, scope="wmma.accumulator")
        C = T.match_buffer(c, (_F, _F), "float32", align=64, offset_factor=_F, scope="shared.dyn")
        with T.sblock("root"):
            T.reads(A[0:_F, 0:_F])
            T.writes(C[0:_F, 0:_F])
            for i, j in T.grid(_F, _F):
                with T.sblock("store"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = A[vi, vj]

    @T.prim_func(s_tir=True)
    def call(a: T.handle, c: T.handle) -> None:
        s1, s0, d1, d0 = T.int32(), T.int32(), T.int32(), T.int32()
        A = T.match_buffer(
            a, (_F, _F), "float32", align=64, offset_factor=_F, scope="wmma.accumulator", strides=[d1, d0]
        )
        C = T.match_buffer(c, (_F, _F), "float32", align=64, offset_factor=_F, scope="shared.dyn", strides=[s1, s0])
        with T.sblock("root"):
            T.reads(A[0:_F, 0:_F])
            T.writes(C[0:_F, 0:_F])
            T.evaluate(
                T.tvm_store_matrix_sync(
                    A.data, _F, _F, _F, _index(A, d1), C.access_ptr("w", ptr_type="float32"), s1, "row_major",
                    dtype="void",
                )
            )  # fmt: skip

    return meaning, call


def _multiply() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def meaning(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (_F, _F), "float16", align=64, offset_factor=_F, scope="wmma.matrix_a")
        B = T.match_buffer(b, (_F, _F), "float16", align=64, offset_factor=_F, scope="wmma.matrix_b")
        C = T.match_buffer(c, (_F, _F), "float32", align=64, offset_factor=_F, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(C[0:_F, 0:_F], A[0:_F, 0:_F], B[0:_F, 0:_F])
            T.writes(C[0:_F, 0:_F])
            for i, j, k in T.grid(_F, _F, _F):
                with T.sblock(""):
                    vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                    C[vi, vj] = C[vi, vj] + T.Cast("float32", A[vi, vk]) * T.Cast("float32", B[vk, vj])

    @T.prim_func(s_tir=True)
    def call(a: T.handle, b: T.handle, c: T.handle) -> None:
        a1, a0, b1, b0, c1, c0 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        A = T.match_buffer(a, (_F, _F), "float16", align=64, offset_factor=_F, scope="wmma.matrix_a", strides=[a1, a0])
        B = T.match_buffer(b, (_F, _F), "float16", align=64, offset_factor=_F, scope="wmma.matrix_b", strides=[b1, b0])
        C = T.match_buffer(
            c, (_F, _F), "float32", align=64, offset_factor=_F, scope="wmma.accumulator", strides=[c1, c0]
        )
        with T.sblock("root"):
            T.reads(C[0:_F, 0:_F], A[0:_F, 0:_F], B[0:_F, 0:_F])
            T.writes(C[0:_F, 0:_F])
            T.evaluate(
                T.tvm_mma_sync(
                    C.data, _index(C, c1), A.data, _index(A, a1), B.data, _index(B, b1), C.data, _index(C, c1),
                    dtype="void",
                )
            )  # fmt: skip

    return meaning, call


@functools.cache
def intrinsics() -> dict[str, str]:
    """Registered names by part: ``init``, ``load_a``, ``load_b``, ``compute``, ``store``."""
    parts = {
        "init": _fill(), "load_a": _load("wmma.matrix_a"), "load_b": _load("wmma.matrix_b"), "compute": _multiply(),
        "store": _store(),
    }  # fmt: skip
    for part, (meaning, call) in parts.items():
        TensorIntrin.register(_PREFIX + part, meaning, call, override=True)
    return {part: _PREFIX + part for part in parts}
