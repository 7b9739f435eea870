"""What a CUDA schedule needs to know of the device: multiprocessors, shared memory, registers, bandwidth.

Kept apart from :mod:`te_kernels.machine`: a GPU has no vector width and a CPU has no blocks, and the revision of every
CPU kernel covers the code of its machine model.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from te_kernels.machine import Machine, describe

KIND = "cuda"
FLOAT32, FLOAT16 = "float32", "float16"


@dataclass(frozen=True)
class Gpu:
    """The device model from which CUDA variants argue their tiles. ``mcpu`` is the architecture, e.g. ``sm_90a``.

    ``shared_bytes`` is what one block may have, ``multiprocessor_shared_bytes`` what all blocks of a multiprocessor
    share. ``dtype`` is the type of activations and weights inside the network. Rates are the vendor's figures.
    """

    mcpu: str
    dtype: str
    multiprocessors: int
    clock_hz: float
    memory_bytes_per_s: float
    l2_bytes: int
    shared_bytes: int
    multiprocessor_shared_bytes: int
    max_threads: int = 1024
    registers: int = 65536
    multiprocessor_threads: int = 2048
    multiprocessor_blocks: int = 32
    warp: int = 32
    fma_lanes: int = 128
    kind: str = KIND
    threads: int = 1

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of rank-4 tensors considered on this device; the caller's own (NCHW) first."""
        return ("NCHW", "NHWC", self.blocked_layout)

    @property
    def blocked_layout(self) -> str:
        """The blocked layout whose block is what one thread loads at once: 16 bytes."""
        return "NCHW8c" if self.dtype == FLOAT16 else "NCHW4c"

    @property
    def l3_bytes(self) -> int:
        """The last-level cache."""
        return self.l2_bytes

    @property
    def target(self) -> tvm.target.Target:
        """A TVM target of this architecture, for schedule rules that ask for one."""
        return tvm.target.Target(
            {
                "kind": KIND, "arch": self.mcpu, "max_threads_per_block": self.max_threads,
                "max_shared_memory_per_block": 48 << 10, "thread_warp_size": self.warp,
            }
        )  # fmt: skip


#: architecture: multiprocessors, clock, memory bandwidth, L2, shared memory of a block and of a multiprocessor,
#: threads of a multiprocessor (NVIDIA's data sheets and the CUDA C++ Programming Guide, table of technical
#: specifications by compute capability). Where several products share an architecture, the data-centre one.
_KNOWN = {
    "sm_70": (80, 1.53e9, 0.90e12, 6 << 20, 96 << 10, 96 << 10, 2048),  # V100
    "sm_75": (40, 1.59e9, 0.32e12, 4 << 20, 64 << 10, 64 << 10, 1024),  # T4
    "sm_80": (108, 1.41e9, 1.56e12, 40 << 20, 163 << 10, 164 << 10, 2048),  # A100
    "sm_86": (84, 1.70e9, 0.94e12, 6 << 20, 99 << 10, 100 << 10, 1536),  # RTX 3090, A40
    "sm_89": (142, 2.50e9, 0.86e12, 96 << 20, 99 << 10, 100 << 10, 1536),  # L40S
    "sm_90": (132, 1.83e9, 3.35e12, 50 << 20, 227 << 10, 228 << 10, 2048),  # H100
}


def describe_gpu(target: tvm.target.Target, dtype: str = FLOAT32) -> Gpu:
    """Device model of a CUDA target such as ``nvidia/nvidia-h100``; raises ValueError for an unknown architecture."""
    if target.kind.name != KIND:
        raise ValueError(f"target kind {target.kind.name!r} is not {KIND}")
    if dtype not in (FLOAT32, FLOAT16):
        raise ValueError(f"precision {dtype!r} is neither {FLOAT32} nor {FLOAT16}")
    arch = str(target.attrs.get("arch", ""))
    known = _KNOWN.get(arch.rstrip("af"))
    if known is None:
        raise ValueError(f"architecture {arch or '(none given)'!r} is not known; known are {', '.join(_KNOWN)}")
    processors, clock, bandwidth, l2, block_shared, shared, threads = known
    return Gpu(arch, dtype, processors, clock, bandwidth, l2, block_shared, shared, multiprocessor_threads=threads)


def dtype_of(machine: Machine | Gpu) -> str:
    """The type of activations and weights inside a network for this machine."""
    return machine.dtype if isinstance(machine, Gpu) else FLOAT32


def machine_of(target: tvm.target.Target, threads: int, precision: str = FLOAT32) -> Machine | Gpu:
    """The machine model of any target; raises ValueError when there is none, or not in this precision."""
    if target.kind.name == KIND:
        return describe_gpu(target, precision)
    if precision != FLOAT32:
        raise ValueError(f"precision {precision} is for CUDA targets; {target.kind.name} computes in {FLOAT32}")
    return describe(target, threads)
