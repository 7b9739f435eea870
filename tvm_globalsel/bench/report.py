"""The results as a Markdown table for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from te_kernels.machine import Machine
from tvm_globalsel.bench.contest import Kernel, PeerResult, Result, roofline
from tvm_globalsel.bench.gauge import Bandwidth

HEADER = (
    "| layer | GFLOP | best of ours | GFLOP/s | of peak | direct or 1x1 | of the probe beside it | Winograd | NHWC "
    "| memory bound | best peer | its kernel / call | ours / peer |\n" + "| --- " * 13 + "|"
)


def row(result: Result, peak_gflops: float, bandwidths: tuple[Bandwidth, ...], machine: Machine) -> str:
    """One line of the table; rates in GFLOP/s of the direct algorithm."""
    task = result.layer.task
    best, bound = result.best("any"), roofline(task, peak_gflops, bandwidths, machine)
    peer = result.peers[0] if result.peers else None
    memory = "-" if bound.limit == "FMA" else f"{bound.gflops:.0f} ({bound.limit})"
    cells = [
        result.layer.label, f"{task.flops / 1e9:.3f}",
        f"{best.label} {best.layouts}" if best else "-", _rate(best),
        f"{best.gflops / peak_gflops:.0%}" if best else "-",
        _rate(direct := result.best("direct")), f"{direct.gflops / direct.beside_gflops:.0%}" if direct else "-",
        *(_rate(result.best(group)) for group in ("winograd", "nhwc")),
        memory, peer.engine if peer else "-", _peer(peer),
        f"{best.gflops / peer.best_gflops:.2f}" if best and peer else "-",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _rate(kernel: Kernel | None) -> str:
    return f"{kernel.gflops:.0f}" if kernel else "-"


def _peer(peer: PeerResult | None) -> str:
    if peer is None:
        return "-"
    return f"{peer.kernel_gflops:.0f} / {peer.call_gflops:.0f}" if peer.kernel_gflops else f"- / {peer.call_gflops:.0f}"


def ratios(results: Iterable[Result]) -> list[float]:
    """Our best over the best peer, for the layers where both exist."""
    found = []
    for result in results:
        best = result.best("any")
        if best and result.peers:
            found.append(best.gflops / result.peers[0].best_gflops)
    return found


def geometric_mean(values: list[float]) -> float:
    """NaN without values."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def as_json(results: Iterable[Result], peak_gflops: float) -> dict[str, Any]:
    """``peak_gflops`` and for each layer our best kernel and the best peer (null where there is none)."""
    layers = []
    for result in results:
        best, peer = result.best("any"), result.peers[0] if result.peers else None
        layers.append(
            {
                "layer": result.layer.label,
                "variant": best.label if best else None,
                "gflops": round(best.gflops, 2) if best else None,
                "peak_fraction": round(best.gflops / peak_gflops, 4) if best else None,
                "best_peer": peer.engine if peer else None,
                "best_peer_gflops": round(peer.best_gflops, 2) if peer else None,
            }
        )
    return {"peak_gflops": round(peak_gflops, 2), "layers": layers}
