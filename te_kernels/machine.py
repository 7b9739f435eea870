"""What a schedule needs to know of the target: vector width, registers, caches, threads."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.target import codegen


@dataclass(frozen=True)
class Machine:
    """The register and cache model from which variants argue their tile sizes.

    ``vector_lanes`` counts float32 lanes; ``vector_registers`` the architectural vector registers of that width.
    """

    kind: str
    mcpu: str
    vector_lanes: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    threads: int

    @property
    def blocked_layout(self) -> str:
        """The blocked layout whose block fills one vector register."""
        return f"NCHW{self.vector_lanes}c"

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of rank-4 tensors considered on this machine; the caller's own (NCHW) first."""
        return ("NCHW", "NHWC", self.blocked_layout)


def host_target(threads: int) -> tvm.target.Target:
    """LLVM target of the machine this runs on. ``mcpu=native`` would silently be generic, so the name is spelt out."""
    return tvm.target.Target(
        {
            "kind": "llvm",
            "mcpu": codegen.llvm_get_system_cpu(),
            "mtriple": codegen.llvm_get_system_triple(),
            "num-cores": threads,
        }
    )


def describe(target: tvm.target.Target, threads: int) -> Machine:
    """Machine model of an LLVM target.

    LLVM's own vector-width query answers 512 for every CPU, so the width is derived from the features.
    """
    if target.kind.name != "llvm":
        raise ValueError(f"target kind {target.kind.name!r} is not supported; only llvm (x86) is")
    lanes, registers = 4, 16
    if codegen.target_has_features("avx512f", target):
        lanes, registers = 16, 32
    elif codegen.target_has_features("avx2", target):
        lanes, registers = 8, 16
    return Machine("llvm", str(target.attrs.get("mcpu", "generic")), lanes, registers, *_cache_bytes(), threads)


@functools.cache
def _cache_bytes() -> tuple[int, int, int]:
    """(L1 data, L2, L3) of core 0, or modest defaults where the system does not say (containers, other systems)."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            match = re.fullmatch(r"(\d+)([KM])", (index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if match and kind in ("Data", "Unified") and level in sizes:
            sizes[level] = int(match.group(1)) << (10 if match.group(2) == "K" else 20)
    return sizes[1], sizes[2], sizes[3]
