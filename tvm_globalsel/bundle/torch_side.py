"""PyTorch beside our plans: the same network with the same weights, in a process of the interpreter that has it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tvm_globalsel.bundle import seeded, torch_peer
from tvm_globalsel.bundle.manifest import Manifest
from tvm_globalsel.bundle.networks import Packed


def torch_rows(
    packed: Packed, expected: list[np.ndarray] | None, manifest: Manifest, interpreter: str, rounds: int,
    compiled: bool, limit_s: float,
) -> dict[str, Any]:  # fmt: skip
    """``ms`` and ``relative_error`` (first sample, against our float64 reference) by way of running it.

    Ways that did not work are in ``failed`` with their reason; ``error`` says why there is nothing at all.
    """
    with tempfile.TemporaryDirectory(prefix="globalsel-") as temporary:
        folder = Path(temporary)
        job = packed.to_json() | {
            "dtype": manifest.dtype, "device": manifest.device, "threads": manifest.threads, "rounds": rounds,
            "compile": compiled, "limit_s": min(limit_s, 1e6),
        }  # fmt: skip
        (folder / torch_peer.JOB).write_text(json.dumps(job))
        arrays = {
            f"{op.name}/{number}": array
            for op, params in zip(packed.network.operators, seeded.weights(packed.network).values(), strict=True)
            for number, array in enumerate(params)
        }
        for index, array in enumerate([*arrays.values(), *seeded.inputs(packed.network).values()]):
            np.save(folder / f"{index}.npy", array)
        if expected is not None:
            np.save(folder / torch_peer.EXPECTED, expected[0])
        environment = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "TVM_"))}
        try:
            done = subprocess.run(
                [interpreter, str(torch_peer.__file__), str(folder)], capture_output=True, text=True, check=False,
                env=environment, timeout=max(1.0, min(limit_s, 1e6) + 30),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"error": str(error)[:200]}
        try:
            result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
            return result
        except (IndexError, ValueError):
            lines = done.stderr.strip().splitlines()
            return {"error": f"its process ended with {done.returncode}: {lines[-1][:200] if lines else ''}"}
