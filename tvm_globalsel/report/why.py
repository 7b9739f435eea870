"""Sentences from exact regrets: why the fastest kernel was not taken, and how far costs may err."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_globalsel.deferral import DEFERRED


@dataclass(frozen=True)
class CloseCall:
    """The alternative of one operator that would change the plan first.

    ``relative_margin``: the optimum stands as long as neither the chosen kernel's measured cost is too low nor the
    alternative's too high by this fraction (each by itself, all else exact).
    """

    node: str
    variant: str
    regret_s: float
    relative_margin: float


def close_calls(plan: dict[str, Any]) -> list[CloseCall]:
    """One for each operator with a feasible alternative, the closest first. Exact, because regrets are."""
    calls = []
    for node in plan["nodes"]:
        for other in node["alternatives"]:
            regret_s, cost_s = other["regret_s"], max(other["cost_s"] or 0.0, node["cost_s"])
            if regret_s is not None and cost_s > 0:
                calls.append(CloseCall(node["name"], other["variant"], regret_s, regret_s / cost_s))
                break  # alternatives come in the order of their regret
    return sorted(calls, key=lambda call: call.relative_margin)


def robustness_sentence(plan: dict[str, Any]) -> str:
    """How sure the plan is in view of measurements that err."""
    calls = close_calls(plan)
    if not calls:
        return "No operator has a second choice."
    near = sum(call.relative_margin < 0.01 for call in calls)
    first = calls[0]
    worst = sum(call.regret_s for call in calls if call.relative_margin < 0.01)
    return (
        f"Closest call: {first.node} with {first.variant}, +{first.regret_s * 1e3:.4f} ms; {near} of {len(calls)} "
        f"operators have a second choice within 1 % of their own cost, all of which together are worth at most "
        f"{worst * 1e3:.3f} ms."
    )


def fastest_alone(node: dict[str, Any]) -> dict[str, Any] | None:
    """The alternative that is faster than the chosen kernel taken by itself, if there is one."""
    measured = [
        a for a in node["alternatives"]
        if a["cost_s"] is not None and a["regret_s"] is not None and a["variant"] != DEFERRED
    ]  # fmt: skip
    best = min(measured, key=lambda a: a["cost_s"], default=None)
    return best if best is not None and best["cost_s"] < node["cost_s"] else None


def fastest_alone_sentence(node: dict[str, Any]) -> str | None:
    """What the fastest kernel would save here and cost elsewhere; None when it was chosen."""
    best = fastest_alone(node)
    if best is None:
        return None
    saved = (node["cost_s"] - best["cost_s"]) * 1e3
    lost = saved + best["regret_s"] * 1e3
    source = best["in"][0] if best["in"] else "-"
    return (
        f"{node['name']}: fastest alone is {best['variant']} ({source} -> {best['out']}): "
        f"saves {saved:.3f} ms here and costs {lost:.3f} ms elsewhere"
    )
