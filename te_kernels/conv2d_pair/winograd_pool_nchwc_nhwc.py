"""Winograd and max pool in one pass, blocked in, NHWC out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from te_kernels.conv2d_pair._winograd_pool_variant import WinogradPoolVariant
from te_kernels.machine import Machine
from te_kernels.task import PairTask


@dataclass(frozen=True)
class WinogradPoolNCHWcToNHWC(WinogradPoolVariant):
    """NCHW<V>c -> NHWC, V the vector length of the target."""

    name = "winograd_pool_nchwc_nhwc"
    title = "Winograd and max pool in one pass, blocked in, NHWC out"

    @classmethod
    def candidates(cls, task: PairTask, machine: Machine) -> Iterator[WinogradPoolVariant]:
        """Best blockings of whole rows of tiles by the model."""
        return cls._pooled(task, machine, machine.blocked_layout, "NHWC")
