"""The processor's own name, part of the identity of every measurement. No TVM in here."""

from __future__ import annotations

import platform
from pathlib import Path


def device_name() -> str:
    """As the system tells it, e.g. ``AMD EPYC 9B14``."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
