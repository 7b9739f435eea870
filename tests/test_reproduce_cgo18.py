"""The networks and the tables of scripts/reproduce_cgo18."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import onnx
import pytest

from tvm_globalsel.frontends.caffe import load_caffe

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import cgo18_nets
import cgo18_report

#: Millions of parameters: Krizhevsky et al. 2012 (60 M), Simonyan and Zisserman 2015 (table 2), Szegedy et al. 2015
#: (table 1 adds up to 6.8 M without biases and the classifier's); convolutions of each.
PUBLISHED = {
    "alexnet": (61, 5),
    "vgg_b": (133, 10),
    "vgg_c": (134, 13),
    "vgg_e": (144, 16),
    "googlenet": (7, 57),
}


@pytest.mark.parametrize("net", cgo18_nets.NETS)
def test_networks_have_the_published_size(net: str, tmp_path: Path) -> None:
    path, shapes = cgo18_nets.prototxt(net, tmp_path)
    model = load_caffe(path, shapes)
    sizes = {t.name: t for t in model.graph.initializer}
    elements = 0
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            dims = sizes[node.input[0]]
            elements += math.prod(int(d) for d in onnx.numpy_helper.to_array(dims))
    millions, convolutions = PUBLISHED[net]
    assert round(elements / 1e6) == millions
    assert sum(node.op_type == "Conv" for node in model.graph.node) == convolutions


def result(sum2d_s: float | None) -> dict:
    base = {"solver": "sum2d"}
    base |= {"error": "not measured"} if sum2d_s is None else {
        "predicted_s": sum2d_s, "measured_s": 2 * sum2d_s, "relative_error": 1e-6,
    }  # fmt: skip
    plan = {"predicted_s": 0.01, "measured_s": 0.02, "relative_error": 3e-6}
    return {
        "device": "D", "target": "llvm:x", "tvm": "0", "rounds": 1, "tuning": {"out_of_time": 0},
        "plans": {"sum2d": base, "winograd": {"solver": "family:winograd", **plan},
                  "best single layout": {"solver": "single:NHWC", **plan}, "local": {"solver": "local", **plan},
                  "global": {"solver": "pbqp", **plan}},
        "onednn": {"error": "torch is not installed"},
    }  # fmt: skip


def test_tables_are_normalised_to_sum2d() -> None:
    text = cgo18_report.tables({"alexnet": {"1": result(1.0)}, "vgg_e": {"2": result(None)}})
    row = next(line for line in text.splitlines() if line.startswith("| AlexNet"))
    assert row.split(" | ")[2:4] == ["1.0 / 1.0", "100.0 / 100.0"]
    assert "| VGG-E | 2 | - / - | - / - |" in text and "sum2d: not measured" in text
    assert "torch is not installed" in text and "best single layout is NHWC" in text and "3.0e-06" in text
    assert "| AlexNet | 1 | 1000.00 / 2000.00 | 10.00 / 20.00 |" in text


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    some = {"alexnet": {"1": result(1.0), "2": result(1.0)}, "vgg_e": {"1": result(None)}}
    cgo18_report.plot(some, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
