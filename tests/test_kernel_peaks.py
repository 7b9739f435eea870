"""scripts/kernel_peaks: layers, probes, peers, and the whole script on one small layer."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm

from te_kernels import probes
from te_kernels.machine import describe, host_target
from te_kernels.task import ConvTask
from tests.globalsel import nets
from tvm_globalsel.bench.contest import Kernel, PeerResult, Result, roofline
from tvm_globalsel.bench.gauge import Bandwidth, Gauge, probed_bytes
from tvm_globalsel.bench.layers import Layer, distinct, of_network, read_table
from tvm_globalsel.bench.peers import installed
from tvm_globalsel.bench.report import as_json, geometric_mean, ratios
from tvm_globalsel.errors import UserError

ROOT = Path(__file__).parent.parent
TARGET = host_target(1)
MACHINE = describe(TARGET, 1)


def test_table_states_the_flops() -> None:
    layers = read_table(ROOT / "tests/data/conv_layers.csv")
    rows = (ROOT / "tests/data/conv_layers.csv").read_text().splitlines()[1:]
    assert [layer.label for layer in layers] == [",".join(row.split(",")[:7]) for row in rows]
    for layer, row in zip(layers, rows, strict=True):
        size, gflop = row.split(",")[7:]
        assert layer.task.oh == int(size)
        assert layer.task.flops / 1e9 == pytest.approx(float(gflop), abs=1e-6)


def test_bad_table_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    path.write_text("in_channels,in_size,kernel,out_channels,stride,pad,groups\n3,8,3,8,1,1,2\n")
    with pytest.raises(UserError, match=r"line 2.*groups 2 must divide"):
        read_table(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path / "absent.csv")


def test_network_gives_distinct_convolutions() -> None:
    layers = of_network(nets.light("squeezenet"))
    assert len(layers) == len({layer.task.key for layer in layers}) == len(distinct(layers + layers))
    assert layers[0].label == "3,224,3,64,2,0,1"


def test_probe_reaches_a_plausible_rate() -> None:
    gauge = Gauge(TARGET, MACHINE)
    lanes = MACHINE.vector_lanes
    assert 2 * lanes * 0.5 < gauge.peak_gflops < 2 * 2 * lanes * 8  # between half an FMA a ns and two at 8 GHz
    assert gauge.timed(lambda: 1.0).seconds == 1.0


@pytest.mark.parametrize("streams", [1, 2, 8])
def test_reading_probe_reads_everything_once(streams: int) -> None:
    data = np.random.default_rng(0).integers(-9, 9, 1024).astype(np.float32)
    sums = tvm.runtime.tensor(np.zeros(8 * MACHINE.vector_lanes, np.float32))
    func = probes.read(MACHINE, data.size, 3, streams)
    tvm.compile(tvm.IRModule({"main": func}), target=TARGET).mod["main"](tvm.runtime.tensor(data), sums)
    assert sums.numpy().sum() == 3 * data.sum()


def test_bandwidth_is_measured_where_it_is_asked_for() -> None:
    server = dataclasses.replace(MACHINE, l1_bytes=48 << 10, l2_bytes=2 << 20, l3_bytes=300 << 20)
    sizes = [probed_bytes(server, level) for level in ("L1", "L2", "L3", "DRAM")]
    assert sizes[0] < server.l1_bytes < sizes[1] < server.l2_bytes < sizes[2] < server.l3_bytes / 8
    assert server.l3_bytes < sizes[3] <= 600 << 20  # no more memory than it takes
    rates = Gauge(TARGET, MACHINE).bandwidth("L1", probed_bytes(MACHINE, "L1"), blocks=1)
    assert 1 < rates.read_gbs < 4000 and 1 < rates.copy_gbs < 4000


def test_roofline_names_what_binds() -> None:
    machine = dataclasses.replace(MACHINE, l2_bytes=1 << 20, l3_bytes=32 << 20)  # some servers hold 256 MiB in L3
    levels = (Bandwidth("L2", 200, 150), Bandwidth("L3", 100, 80), Bandwidth("DRAM", 30, 25))
    assert roofline(ConvTask(1, 64, 56, 56, 64, 3, 3, pad=(1, 1, 1, 1)), 250, levels, machine).limit == "FMA"
    large = ConvTask(1, 512, 256, 256, 512, 3, 3, pad=(1, 1, 1, 1), groups=512)  # 256 MiB of data
    bound = roofline(large, 250, levels, machine)
    moved = 4 * (2 * 512 * 256 * 256 + 512 * 9)
    assert bound.limit == "DRAM"
    assert bound.gflops == pytest.approx(large.flops / (moved / 30))


def test_json_has_exactly_the_agreed_keys() -> None:
    layer = Layer(ConvTask(1, 8, 7, 7, 8, 3, 3, pad=(1, 1, 1, 1)), "t")
    kernel = Kernel("direct_nchwc", "direct_nchwc[p=1]", "NCHW -> NCHW", ("any", "direct"), 200.0, 240.0)
    peers = (PeerResult("onnxruntime", 80.0, 100.0), PeerResult("ncnn", 90.0, None))
    results = [Result(layer, (kernel,), peers, ()), Result(layer, (), (), ())]
    written = as_json(results, 250.0)
    assert written["peak_gflops"] == 250.0
    assert written["layers"][0] == {
        "layer": "8,7,3,8,1,1,1", "variant": "direct_nchwc[p=1]", "gflops": 200.0, "peak_fraction": 0.8,
        "best_peer": "onnxruntime", "best_peer_gflops": 100.0,
    }  # fmt: skip
    assert written["layers"][1]["variant"] is None
    assert ratios(results) == [2.0]
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_installed_engines() -> None:
    assert dict(installed([sys.executable]))["onnxruntime"] == sys.executable
    with pytest.raises(UserError, match="/does/not/exist: cannot be run"):
        installed([sys.executable, "/does/not/exist"])


def test_the_script_on_one_layer(tmp_path: Path) -> None:
    table, out = tmp_path / "layers.csv", tmp_path / "out.json"
    table.write_text("in_channels,in_size,kernel,out_channels,stride,pad,groups\n16,7,1,16,1,0,1\n")
    command = [
        sys.executable, ROOT / "scripts/kernel_peaks.py", "--layers", table, "--json", out, "--rounds", "2",
        "--tuning-log", tmp_path / "log.jsonl",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "FMA peak" in done.stdout and "L2: read" in done.stdout
    (layer,) = json.loads(out.read_text())["layers"]
    assert layer["layer"] == "16,7,1,16,1,0,1"
    assert layer["gflops"] > 0 and layer["best_peer_gflops"] > 0
    assert "16,7,1,16,1,0,1" in done.stdout
