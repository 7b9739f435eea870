"""Commands of this program in processes of their own, which load no compiler and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tvm_globalsel.errors import UserError

_TIMEOUT_S = 600.0


def answer_of(command: str, *arguments: object) -> dict[str, Any]:
    """What ``globalsel COMMAND ARGUMENTS --json`` says; raises :class:`UserError` with the last line of a failure."""
    words = [sys.executable, "-m", "tvm_globalsel", command, *map(str, arguments), "--json"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise UserError(f"globalsel {command}: no answer within {_TIMEOUT_S:.0f} seconds") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"globalsel {command}: {said[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
