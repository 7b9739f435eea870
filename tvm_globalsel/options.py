"""What a compilation may be told, and how it speaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from te_kernels.gpu import FLOAT32
from tvm_globalsel.demands import Demands

#: Takes a sentence for the user about what is being done.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a compilation may be told.

    ``target`` is ``"host"`` or a TVM target as JSON or tag; ``budget_s`` bounds the time spent measuring;
    ``tuning_log`` is the log file (None: the user's cache folder); ``device`` whose measurements in it count (None:
    this machine's; for another target than the host's see ``devices``); with ``trust_log``, what it holds of other
    machines, thread counts or versions is used too; with ``rpc_tracker`` (``HOST:PORT``), kernels are measured on the
    devices that registered there with ``rpc_key``; ``weights`` is a Caffe network's ``.caffemodel``; ``demands`` are
    side constraints on the plan. ``precision`` is what a CUDA network computes in: float32, or float16 with sums in
    float32.
    Measuring ends when no plan is estimated to be better by more than ``tolerance``, a part of the plan's time;
    ``exhaustive`` measures all candidates instead, as do other solvers than exact ones, limits, and remote devices.
    ``refine``: how many times at most the built network is profiled and solved again with what its kernels take inside.
    """

    target: str = "host"
    precision: str = FLOAT32
    threads: int = 1
    tuning_log: Path | None = None
    trust_log: bool = False
    budget_s: float = 300.0
    solver: str = "pbqp"
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    seed_weights: int | None = None
    weights: Path | None = None
    dump_dir: Path | None = None
    device: str | None = None
    rpc_tracker: str | None = None
    rpc_key: str | None = None
    demands: Demands = field(default_factory=Demands)
    tolerance: float = 0.01
    exhaustive: bool = False
    refine: int = 0

    @property
    def searches(self) -> bool:
        """Whether only what can change the answer is measured.

        That is known for the fastest plan only: other solvers and limits compare candidates that it never needs.
        And it is known of this machine only, whose rates bound the candidates' times from below.
        """
        here = self.rpc_tracker is None
        return here and not self.exhaustive and self.solver in ("pbqp", "milp") and not self.demands.limited


def default_log() -> Path:
    """The user's own tuning log."""
    return cache_folder() / "tuning.jsonl"


def cache_folder() -> Path:
    """Where a user's files lie that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm-globalsel"
