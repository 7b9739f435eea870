"""The weights of a deployed module: one file beside it, read once into memory from which the kernels use them directly.

TVM would embed them in the library's bytecode. There they are compiled, linked, mapped and then copied; VGG-19's
575 MB took most of the time of exporting and twice their size in memory. No compiler is needed here.
"""

from __future__ import annotations

import math
import mmap
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.errors import UserError

#: Kernels are compiled for pointers of this alignment.
_ALIGNMENT = 64
_BLOCK_BYTES = 1 << 22
_MAX_BYTES = 1 << 40
#: What both numpy and TVM's tensors can hold; constants of other types stay in the library.
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def write_weights(arrays: Sequence[np.ndarray], path: Path) -> dict[str, Any]:
    """Write the file; returns what the plan records of it: size, CRC-32, and each tensor's place, shape and dtype.

    A CRC finds damage as surely as SHA-256 and three times as fast; against intent neither helps, beside its own plan.
    """
    checksum, tensors, position = 0, [], 0
    with open(path, "wb") as file:
        for array in arrays:
            padding = b"\0" * (-position % _ALIGNMENT)
            position += len(padding)
            tensors.append({"offset": position, "shape": list(array.shape), "dtype": str(array.dtype)})
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            for part in (padding, content):
                file.write(part)
                checksum = zlib.crc32(part, checksum)
            position += array.nbytes
    return {"bytes": position, "crc32": checksum, "tensors": tensors}


def check_record(record: Any) -> None:
    """Raises ValueError, KeyError or TypeError unless ``record`` could be what :func:`write_weights` returned."""
    size = record["bytes"]
    if not isinstance(size, int) or not 0 <= size <= _MAX_BYTES or not isinstance(record["crc32"], int):
        raise ValueError("the size of its weights is out of range")
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
    """
    size = int(record["bytes"])
    memory = _memory(size)
    position = checksum = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while position < size:
                block = memory[position : position + _BLOCK_BYTES]
                count = file.readinto(block)
                if not count:
                    break
                checksum = zlib.crc32(block[:count], checksum)  # while it is in the cache
                position += count
            complete = position == size and not file.read(1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "compile the model again") from error
    if not complete or checksum != record["crc32"]:
        raise UserError(f"{path}: not the weights that plan.json belongs to", "compile the model again")
    return list(_views(memory, record["tensors"]))


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
