"""Threads for work that releases Python's lock: LLVM, and copying in numpy."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


def thread_pool() -> ThreadPoolExecutor:
    """One thread for each CPU that this process may use."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))
