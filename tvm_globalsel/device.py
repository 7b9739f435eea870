"""Names of what was measured on: the processor, and the target that the code was generated for."""

from __future__ import annotations

import os
import platform
import warnings
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

#: Attributes of a target that do not change the code, or that a log keeps elsewhere (``num-cores``: the threads).
_WITHOUT_EFFECT = ("kind", "tag", "keys", "device", "libs", "host", "num-cores", "mtriple", "mcpu", "mattr")


def target_identity(target: tvm.target.Target) -> str:
    """The target in canonical form: kind, architecture and system, processor, features, whatever else is given.

    Features are sorted. The vendor in the triple is left out: LLVM calls the same system by several names.
    """
    attributes: dict[str, Any] = dict(target.export())
    parts = [str(attributes["kind"])]
    triple = str(attributes.get("mtriple") or codegen.llvm_get_system_triple()).split("-")
    if len(triple) > 2:
        parts.append("-mtriple=" + "-".join((triple[0], *triple[2:])))
    parts.append(f"-mcpu={attributes.get('mcpu', 'generic')}")
    features = sorted(map(str, attributes.get("mattr", ())))
    if features:
        parts.append("-mattr=" + ",".join(features))
    others = sorted(name for name in attributes if name not in _WITHOUT_EFFECT)
    return " ".join([*parts, *(f"-{name}={attributes[name]}" for name in others)])


def device_name() -> str:
    """The processor's own name, part of the identity of every measurement."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def warn_of_threads(threads: int) -> None:
    """Warn when more threads are wanted than there are processors: they would wait for one another in every kernel."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > processors:
        warnings.warn(f"--threads {threads}: this process may use {processors} processor(s) only", stacklevel=2)
