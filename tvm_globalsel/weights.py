"""The weights of a deployed module: one file beside it, read once into memory from which the kernels use them directly.

TVM would embed them in the library's bytecode. There they are compiled, linked, mapped and then copied; VGG-19's
575 MB took most of the time of exporting and twice their size in memory. No compiler is needed here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.errors import UserError
from tvm_globalsel.large_pages import large_pages
from tvm_globalsel.threads import thread_pool

#: Kernels are compiled for pointers of this alignment.
_ALIGNMENT = 64
#: What a thread reads at once; small enough for L2, so that the checksum finds it there.
_BLOCK_BYTES = 1 << 19
#: What has a checksum of its own, so that threads can share the file; part of the format, as is the page.
_PART_BYTES = 1 << 23
_PAGE_BYTES = 1 << 12
_MAX_BYTES = 1 << 40
#: What both numpy and TVM's tensors can hold; constants of other types stay in the library.
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def write_weights(arrays: Sequence[np.ndarray], path: Path) -> dict[str, Any]:
    """Write the file; returns what the plan records: size, checksums, and each tensor's place, shape and dtype."""
    tensors, position = [], 0
    with open(path, "wb") as file:
        for array in arrays:
            tensors.append({"offset": position, "shape": list(array.shape), "dtype": str(array.dtype)})
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            position += len(content) + -len(content) % _ALIGNMENT
            file.write(content)
            file.write(b"\0" * (position - file.tell()))
    written = np.memmap(path, np.uint8, "r").data if position else memoryview(b"")
    parts = range(0, position, _PART_BYTES)
    return {
        "bytes": position,
        "checksums": [_hexadecimal(_checksum(written[start : start + _PART_BYTES], 0)) for start in parts],
        "tensors": tensors,
    }


def _checksum(block: memoryview, page: int) -> int:
    """What a block that begins at a page adds to its part's checksum, modulo 2**64.

    The sum of each page's 64-bit words times an odd number that depends on the page: every change shows but words
    that change places within a page, and changes that cancel out. CRC-32 has a seventh of the speed and took half of
    the time of loading. It is to find damage; against intent no checksum helps that lies beside what it checks.
    """
    words = np.frombuffer(block, "<u8")
    sums = np.add.reduceat(words, range(0, len(words), _PAGE_BYTES // 8))
    factors = np.arange(page, page + len(sums), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C14) + np.uint64(1)
    return int(np.dot(sums, factors))


def _hexadecimal(checksum: int) -> str:
    # as a number, JSON readers of other languages would round it
    return f"{checksum % (1 << 64):016x}"


def check_record(record: Any) -> None:
    """Raises ValueError, KeyError or TypeError unless ``record`` could be what :func:`write_weights` returned."""
    size, checksums = record["bytes"], record["checksums"]
    if not isinstance(size, int) or not 0 <= size <= _MAX_BYTES or size % _ALIGNMENT:
        raise ValueError("the size of its weights is out of range")
    if len(checksums) != -(-size // _PART_BYTES) or not all(isinstance(one, str) for one in checksums):
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
            memory, starts = large_pages(size), range(0, size, _PART_BYTES)
            found = list(
                pool.map(lambda start: _read(file.fileno(), start, memory[start : start + _PART_BYTES]), starts)
            )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "compile the model again") from error
    if found != record["checksums"]:
        raise other
    return list(_views(memory, record["tensors"]))


def _read(file: int, position: int, part: memoryview) -> str:
    """Read one part of the file; returns its checksum, nothing if the file ends before."""
    checksum = 0
    for start in range(0, len(part), _BLOCK_BYTES):
        block, done = part[start : start + _BLOCK_BYTES], 0
        while done < len(block):
            count = os.preadv(file, [block[done:]], position + start + done)
            if not count:
                return ""
            done += count
        checksum += _checksum(block, start // _PAGE_BYTES)
    return _hexadecimal(checksum)


def _views(memory: memoryview, tensors: Iterable[dict[str, Any]]) -> Iterable[np.ndarray]:
    for tensor in tensors:
        shape, dtype = tensor["shape"], np.dtype(tensor["dtype"])
        yield np.frombuffer(memory, dtype, math.prod(shape), tensor["offset"]).reshape(shape)
