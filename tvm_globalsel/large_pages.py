"""Memory in large pages, in which weights are streamed with fewer misses in the TLB."""

from __future__ import annotations

import mmap


def large_pages(size: int) -> memoryview:
    """``size`` bytes of anonymous memory, zero, in large pages where the system has them."""
    # private: the default is memory shared with child processes, which has no large pages
    block = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(block)[:size]
