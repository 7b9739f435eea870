"""The arena asks for large pages where there are any, and the results do not change."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tvm

from te_kernels.machine import host_target
from tests.globalsel.nets import NetBuilder
from tvm_globalsel import memory_plan
from tvm_globalsel.artefacts import ASK_FOR_LARGE_PAGES
from tvm_globalsel.large_pages import MARGIN_BYTES, advice, margin_bytes
from tvm_globalsel.options import Options
from tvm_globalsel.pipeline import compile
from tvm_globalsel.profile import profile
from tvm_globalsel.runtime import Deployed

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def test_only_for_arenas_of_some_size_on_linux() -> None:
    linux = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu"})
    other = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-apple-darwin"})
    assert margin_bytes(4 << 20, linux) == MARGIN_BYTES
    assert margin_bytes(4 << 10, linux) == margin_bytes(4 << 20, other) == margin_bytes(4 << 20, None) == 0


@pytest.mark.skipif(
    not ENABLED.exists() or "[never]" in ENABLED.read_text(), reason="this system gives no large pages to those who ask"
)
def test_the_memory_that_is_asked_for_is_in_large_pages() -> None:
    size = 16 << 20
    built = tvm.compile(tvm.IRModule({"main": advice(size).with_attr("global_symbol", "main")}), host_target(1))
    memory = tvm.runtime.empty((size,), "uint8")
    address = int(np.from_dlpack(memory).ctypes.data)
    assert not _flagged(address)
    built["main"](memory)
    assert _flagged(address)


def _flagged(address: int) -> bool:
    """Whether the kernel has noted that the mapping around the middle of 16 MiB at ``address`` wants large pages."""
    middle, inside = address + (8 << 20), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds:
            inside = int(bounds[1], 16) <= middle < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError("no mapping holds the memory")


def test_a_network_with_a_large_arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NetBuilder((1, 16, 96, 96))
    model = net.model(net.conv(net.conv("x", 16, 16, 3, pad=1), 16, 16, 1))
    options = Options(tuning_log=tmp_path / "log.jsonl", budget_s=0)
    compile(model, tmp_path / "asks", options)
    monkeypatch.setattr(memory_plan, "margin_bytes", lambda *_: 0)
    compile(model, tmp_path / "plain", options)
    asks, plain = Deployed(tmp_path / "asks"), Deployed(tmp_path / "plain")
    called: list[str] = []
    with asks.watched(lambda name, before: called.append(name)):
        asks.run(asks.random_inputs())
    assert ASK_FOR_LARGE_PAGES in called
    inputs = asks.random_inputs(3)
    for one, other in zip(asks.run(inputs).values(), plain.run(inputs).values(), strict=True):
        assert np.array_equal(one, other)
    assert ASK_FOR_LARGE_PAGES not in {step.kernel for step in profile(asks, asks.random_inputs(), repeat=1).steps}
