"""Run a CUDA schedule on the CPU: every thread of every block in turn.

In s_tir a thread binding is a loop like any other, and what threads copy together into shared memory is a loop nest
inside the loops of the threads. With serial loops in their place each thread does the whole copy by itself, so results
are those of the schedule (its index arithmetic, edges, staging, pipeline order), without its barriers and instructions.
"""

from __future__ import annotations

import re

import tvm
from tvm.script import from_source

_BINDING = re.compile(r'T\.thread_binding\(([^"]*?), thread="[^"]*"\)')
_SHARED = re.compile(r', scope="shared(\.dyn)?"')
_UNROLL = re.compile(r"T\.unroll\(")
_PIPELINE = re.compile(r", annotations=\{[^{}]*software_pipeline[^{}]*\}")


def serial(func: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    """``func`` with its threads one after the other."""
    text = func.script(show_meta=False)
    assert "thread_binding" in text, "the schedule binds no threads"
    text = _UNROLL.sub("range(", text)
    text = _PIPELINE.sub("", _SHARED.sub("", _BINDING.sub(r"range(\1)", text)))
    assert "thread_binding" not in text
    result = from_source(text, extra_vars=None)
    return result.with_attr("global_symbol", "main")
