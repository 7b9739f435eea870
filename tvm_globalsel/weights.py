"""The weights of a deployed module: one file beside it, read once into memory from which the kernels use them directly.

TVM would embed them in the library's bytecode. There they are compiled, linked, mapped and then copied; VGG-19's
575 MB took most of the time of exporting and twice their size in memory. No compiler is needed here.
"""

from __future__ import annotations

import math
import mmap
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.errors import UserError
from tvm_globalsel.threads import thread_pool

#: Kernels are compiled for pointers of this alignment.
_ALIGNMENT = 64
#: What a thread reads at once; small enough for L2, so that the checksum finds it there.
_BLOCK_BYTES = 1 << 19
#: What has a checksum of its own, so that threads can share the file; part of the format.
_PART_BYTES = 1 << 23
_MAX_BYTES = 1 << 40
#: What both numpy and TVM's tensors can hold; constants of other types stay in the library.
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def write_weights(arrays: Sequence[np.ndarray], path: Path) -> dict[str, Any]:
    """Write the file; returns what the plan records of it: size, CRC-32s, and each tensor's place, shape and dtype.

    A CRC finds damage as surely as SHA-256 and three times as fast; against intent neither helps, beside its own plan.
    """
    checksums, tensors, position = list[int](), [], 0
    with open(path, "wb") as file:
        for array in arrays:
            padding = b"\0" * (-position % _ALIGNMENT)
            tensors.append({"offset": position + len(padding), "shape": list(array.shape), "dtype": str(array.dtype)})
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            for piece in (padding, content):
                file.write(piece)
                _continue(checksums, position, piece)
                position += len(piece)
    return {"bytes": position, "crc32": checksums, "tensors": tensors}


def _continue(checksums: list[int], position: int, content: bytes | memoryview) -> None:
    """Take ``content``, which the file has at ``position``, into the checksums of its parts."""
    while content:
        if position % _PART_BYTES == 0:
            checksums.append(0)
        count = min(len(content), _PART_BYTES - position % _PART_BYTES)
        checksums[-1] = zlib.crc32(content[:count], checksums[-1])
        position, content = position + count, content[count:]


def check_record(record: Any) -> None:
    """Raises ValueError, KeyError or TypeError unless ``record`` could be what :func:`write_weights` returned."""
    size, checksums = record["bytes"], record["crc32"]
    if not isinstance(size, int) or not 0 <= size <= _MAX_BYTES:
        raise ValueError("the size of its weights is out of range")
    if len(checksums) != -(-size // _PART_BYTES) or not all(isinstance(one, int) for one in checksums):
        raise ValueError("the checksums of its weights are malformed")
    for tensor in record["tensors"]:
        offset, shape = tensor["offset"], tensor["shape"]
        integers = all(isinstance(n, int) and 0 <= n <= _MAX_BYTES for n in [offset, *shape])
        if not integers or tensor["dtype"] not in DTYPES or offset % _ALIGNMENT:
            raise ValueError("a weight is malformed")
        if offset + math.prod(shape) * np.dtype(tensor["dtype"]).itemsize > size:
            raise ValueError("a weight lies outside of the file of weights")


def read_weights(path: Path, record: dict[str, Any]) -> list[np.ndarray]:
    """The tensors as views of one block of memory; raises :class:`UserError` when the file is not the recorded one.

    The block is anonymous memory in large pages where the system has them: streaming weights from a mapped file costs
    a page fault for each 4 KiB and more misses in the TLB, and a file that is changed later would change the network.
    All CPUs take part: the kernel clears each page first, and a virtual machine may have to ask its host for it.
    """
    size = int(record["bytes"])
    other = UserError(f"{path}: not the weights that plan.json belongs to", "compile the model again")
    try:
        with open(path, "rb", buffering=0) as file, thread_pool() as pool:
            if os.fstat(file.fileno()).st_size != size:  # before there is memory for it
                raise other
            memory, starts = _memory(size), range(0, size, _PART_BYTES)
            found = list(
                pool.map(lambda start: _read(file.fileno(), start, memory[start : start + _PART_BYTES]), starts)
            )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "compile the model again") from error
    if found != record["crc32"]:
        raise other
    return list(_views(memory, record["tensors"]))


def _read(file: int, position: int, part: memoryview) -> int:
    """Read one part of the file; returns its CRC-32 (of what there is, if the file ends before)."""
    checksum = done = 0
    while done < len(part):
        block = part[done : done + _BLOCK_BYTES]
        count = os.preadv(file, [block], position + done)
        if not count:
            break
        checksum = zlib.crc32(block[:count], checksum)
        done += count
    return checksum


def _memory(size: int) -> memoryview:
    # private: the default is memory shared with child processes, which has no large pages
    block = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(block)[:size]


def _views(memory: memoryview, tensors: Iterable[dict[str, Any]]) -> Iterable[np.ndarray]:
    for tensor in tensors:
        shape, dtype = tensor["shape"], np.dtype(tensor["dtype"])
        yield np.frombuffer(memory, dtype, math.prod(shape), tensor["offset"]).reshape(shape)
