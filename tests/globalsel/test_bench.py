"""``globalsel bench`` on a small network, its report, and what it refuses."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from tests.globalsel import nets
from tests.globalsel.commands import command
from tvm_globalsel.bench.catalogue import engines, find
from tvm_globalsel.bench.engines import ncnn
from tvm_globalsel.bench.network_report import as_json, plot, print_network, print_summary
from tvm_globalsel.bench.networks import PEERS, NetworkResult
from tvm_globalsel.bench.race import Figures
from tvm_globalsel.bench.reference import reference
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.onnx import random_inputs
from tvm_globalsel.verify import reference_session, relative_error


def test_bench_a_network_at_another_batch(tiny: tuple[Path, Path], log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = (
        "bench", tiny[0], "--against", "onnxruntime", "--selections", "global,single:NHWC", "--batch", 2, "--rounds", 2,
        "--json", out, "--tuning-log", log, "--cache", tmp_path / "cache", "--budget", 5, "--load",
    )  # fmt: skip
    done = command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(out.read_text())
    assert (result["model"], result["threads"], result["batch"]) == ("tiny", 1, 2)
    assert set(result["engines"]) == {"globalsel", "globalsel single:NHWC", "onnxruntime"}
    for figures in result["engines"].values():
        assert 0 < figures["min_ms"] <= figures["median_ms"]
        assert figures["max_rel_error"] < 1e-5 and figures["rss_bytes"] > 0 and figures["load_s"] > 0
    assert result["best_peer"] == "onnxruntime"
    ratio = result["engines"]["onnxruntime"]["median_ms"] / result["engines"]["globalsel"]["median_ms"]
    assert result["speedup_over_best_peer"] == pytest.approx(ratio)
    assert "tiny: " in done.stdout and "x the best peer" in done.stdout
    plans = sorted((tmp_path / "cache").glob("tiny-*/plan.json"))
    assert len(plans) == 2 and json.loads(plans[0].read_text())["inputs"][0]["shape"][0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "onnxruntime,gurgle"), "--against 'gurgle' is no engine"),
        (("--threads", 4096), "CPU(s) may be used here"),
        (("--peer-python", "/does/not/exist"), "cannot be run"),
        (("--selections", ","), "names no plan"),
    ],
)
def test_refused(tiny: tuple[Path, Path], arguments: tuple[object, ...], message: str) -> None:
    done = command("bench", tiny[0], *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr


def test_every_peer_is_an_engine_and_absent_ones_say_why(tmp_path: Path) -> None:
    assert set(PEERS) == set(engines()) - {"globalsel"}
    bare = tmp_path / "python"  # an interpreter without any package
    bare.write_text(f'#!/bin/sh\nexec "{os.path.realpath(os.sys.executable)}" -I -S "$@"\n')  # type: ignore[attr-defined]
    bare.chmod(0o755)
    hosted, missing = find(["ncnn", "openvino"], [str(bare)])
    assert not hosted
    assert "ncnn, pnnx, onnx not installed" in missing["ncnn"] and "pip install" in missing["openvino"]


def test_a_conversion_that_wrote_nothing_is_not_kept(
    tiny: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the converter leaves empty files and says that all is well."""
    converter = tmp_path / "pnnx"
    converter.write_text("#!/bin/sh\ntouch net.param net.bin\n")
    converter.chmod(0o755)
    monkeypatch.setitem(sys.modules, "pnnx", types.SimpleNamespace(EXEC_PATH=converter))
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(RuntimeError, match="pnnx failed: it wrote nothing"):
        ncnn.prepare(tiny[0], folder, 1)


def test_reference_agrees_with_onnx_runtime() -> None:
    model = nets.everything()
    inputs = random_inputs(model, 3)
    found = reference(model, inputs, "everything")
    for got, expected in zip(found.outputs, reference_session(model).run(None, inputs), strict=True):
        assert relative_error(got, expected) < 1e-5
    assert found.gflop > 0


def test_a_graph_in_torch_computes_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tvm_globalsel.bench.engines.onnx_in_torch import Graph

    for model in (nets.everything(), onnx.load(str(nets.light("squeezenet")))):
        onnx.save(model, tmp_path / "m.onnx")
        inputs = random_inputs(model)
        with torch.no_grad():
            outputs = Graph(tmp_path / "m.onnx")(*[torch.from_numpy(x) for x in inputs.values()])
        for got, expected in zip(outputs, reference_session(model).run(None, inputs), strict=True):
            assert relative_error(got.numpy(), expected) < 1e-5


def figures(median_s: float) -> Figures:
    return Figures(median_s, 0.9 * median_s, 30, 1e-6, 0.1, 0.2, 100 << 20)


def results() -> list[NetworkResult]:
    times = {"globalsel": 1e-3, "globalsel local": 3e-3, "ncnn": 2e-3, "mnn": 4e-3}
    engines = {label: figures(seconds) for label, seconds in times.items()}
    return [
        NetworkResult("net", 1, 1, 0.1, 200.0, engines, {"tvm": "not installed"}),
        NetworkResult("alone", 1, 1, 0.1, 200.0, {"globalsel": figures(1e-3)}, {}),
    ]


def test_report() -> None:
    first, second = as_json(results())
    assert first["best_peer"] == "ncnn" and first["speedup_over_best_peer"] == pytest.approx(2.0)
    assert first["engines"]["globalsel"]["peak_fraction"] == pytest.approx(0.1 / 1e-3 / 200)
    assert first["engines"]["mnn"]["median_ms"] == pytest.approx(4.0)
    assert second["best_peer"] is None and second["speedup_over_best_peer"] is None
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    print_network(results()[0], True, console)
    print_summary(results(), 3, console)
    text = console.export_text()
    assert "tvm: not installed" in text and "2.00 x the best peer" in text
    assert "slower on net (0.67)" in text and "3 block(s)" in text


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot(results(), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="cannot be written"):
        plot(results(), tmp_path / "no" / "p.png")
    assert np.isfinite(results()[0].speedup("globalsel") or np.nan)
