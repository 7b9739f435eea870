"""How a process of TVM's pools starts: where its temporary files go, how much memory it may take."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import psutil

_SHARE = 0.9


def start(scratch: str) -> None:
    """Temporary files into ``scratch``, whose owner removes it whole; a kernel that wants all memory fails alone.

    Without the limit the system would end some process for a kernel's greed, perhaps the tuner.
    """
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    limit = int(_SHARE * free_bytes())
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))


def free_bytes() -> int:
    """Memory that may still be used: the machine's, or less in a container (control groups version 2)."""
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text().strip()
        reclaimable = sum(
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.split()[0] in ("inactive_file", "active_file")
        )
        if limit != "max":
            free = min(free, int(limit) - int(used) + reclaimable)
    except (OSError, ValueError, IndexError):
        pass
    return max(free, 1 << 30)
