"""Commands of this program in processes of their own, which load no compiler and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tvm_globalsel.errors import UserError


def answer_of(command: str, *arguments: object, timeout_s: float, advice: str = "") -> dict[str, Any]:
    """What ``globalsel COMMAND ARGUMENTS --json`` says.

    Raises :class:`UserError` with the last line of a failure and the ``advice``.
    """
    words = [sys.executable, "-m", "tvm_globalsel", command, *map(str, arguments), "--json"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise UserError(f"globalsel {command}: no answer within {timeout_s:.0f} seconds", advice) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"globalsel {command}: {said[-1]}", advice)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
