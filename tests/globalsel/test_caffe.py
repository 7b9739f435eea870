"""The Caffe front end: against Caffe's own loops, against published shapes, and against hostile files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.globalsel import caffe_reference as reference
from tvm_globalsel.cli import main
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.caffe import load_caffe
from tvm_globalsel.frontends.onnx import random_inputs
from tvm_globalsel.frontends.read import read_model
from tvm_globalsel.verify import reference_session, relative_error

NETS = Path(__file__).parents[1] / "data/caffe"
INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 4, 11, 9] } } }\n'


def net(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return path


def run(model: onnx.ModelProto, x: np.ndarray | None = None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and outputs of a prepared model by ONNX Runtime."""
    inputs = random_inputs(model, 3) if x is None else {"x": x}
    session = reference_session(model)
    names = [o.name for o in session.get_outputs()]
    return inputs, dict(zip(names, session.run(names, inputs), strict=True))


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """By ONNX's own inference, which knows nothing of the front end's."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.graph.value_info, *inferred.graph.output)
    }


def test_blobs_of_alexnet_have_the_published_shapes() -> None:
    shapes = shapes_of(load_caffe(NETS / "bvlc_alexnet.prototxt", {"data": (1, 3, 227, 227)}))
    expected = {
        "conv1": [1, 96, 55, 55], "pool1": [1, 96, 27, 27], "conv2": [1, 256, 27, 27], "pool2": [1, 256, 13, 13],
        "conv3": [1, 384, 13, 13], "conv5": [1, 256, 13, 13], "pool5": [1, 256, 6, 6], "fc6": [1, 4096],
        "prob": [1, 1000],
    }  # fmt: skip
    assert {name: shapes[name] for name in expected} == expected


def test_blobs_of_googlenet_have_the_published_shapes() -> None:
    """Table 1 of "Going deeper with convolutions" (CVPR 2015); ceil mode makes 28, 14 and 7 of 56, 28 and 14."""
    shapes = shapes_of(load_caffe(NETS / "bvlc_googlenet.prototxt", {"data": (1, 3, 224, 224)}))
    expected = {
        "conv1/7x7_s2": [1, 64, 112, 112], "pool1/3x3_s2": [1, 64, 56, 56], "conv2/3x3": [1, 192, 56, 56],
        "pool2/3x3_s2": [1, 192, 28, 28], "inception_3a/output": [1, 256, 28, 28],
        "inception_3b/output": [1, 480, 28, 28], "pool3/3x3_s2": [1, 480, 14, 14],
        "inception_4a/output": [1, 512, 14, 14], "inception_4e/output": [1, 832, 14, 14],
        "pool4/3x3_s2": [1, 832, 7, 7], "inception_5b/output": [1, 1024, 7, 7], "pool5/7x7_s1": [1, 1024, 1, 1],
        "prob": [1, 1000],
    }  # fmt: skip
    assert {name: shapes[name] for name in expected} == expected


def test_alexnet_computes_what_its_layers_compute_one_by_one(tmp_path: Path) -> None:
    text = (NETS / "bvlc_alexnet.prototxt").read_text().replace("num_output: 4096", "num_output: 64")
    model = read_model(net(tmp_path, text), {"data": (1, 3, 67, 67)}, 0)
    w = {name: array.astype(np.float64) for name, array in weights_of(model).items()}
    inputs, outputs = run(model)
    x = inputs["data"].astype(np.float64)

    def conv(name: str, x: np.ndarray, stride: int = 1, pad: int = 0, groups: int = 1) -> np.ndarray:
        weight, bias = w[f"{name}:weight"], w[f"{name}:bias"]
        return np.maximum(reference.convolution(x, weight, bias, (stride,) * 2, (pad,) * 2, (1, 1), groups), 0)

    def norm_pool(x: np.ndarray) -> np.ndarray:
        return reference.pool(reference.lrn(x, 5, 1e-4, 0.75, 1.0, False), "MAX", (3, 3), (2, 2), (0, 0))

    x = norm_pool(conv("conv1", x, stride=4))
    x = norm_pool(conv("conv2", x, pad=2, groups=2))
    x = conv("conv5", conv("conv4", conv("conv3", x, pad=1), pad=1, groups=2), pad=1, groups=2)
    x = reference.pool(x, "MAX", (3, 3), (2, 2), (0, 0)).reshape(1, -1)
    for name in ("fc6", "fc7", "fc8"):
        x = x @ w[f"{name}:weight"].T + w[f"{name}:bias"]
        x = np.maximum(x, 0) if name != "fc8" else x
    x = np.exp(x - x.max())
    assert relative_error(outputs["prob"], x / x.sum()) < 1e-5


def test_pooling_of_every_geometry(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    checked = {"MAX": 0, "AVE": 0}
    corrected = 0
    for case in range(120):
        kernel, stride = random.integers(1, 5, 2), random.integers(1, 5, 2)
        pad = np.minimum(random.integers(0, 3, 2), kernel - 1)
        mode = ("MAX", "AVE")[case % 2]
        text = INPUT + (
            f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param {{ pool: {mode} '
            f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
            f"pad_h: {pad[0]} pad_w: {pad[1]} }} }}"
        )
        try:
            model = load_caffe(net(tmp_path, text))
        except UserError as error:  # a window that has nothing to read: Caffe's result would be -FLT_MAX or NaN
            assert "outside" in str(error)
            ends = [(reference.pooled_size(s, k, t, p, False) - 1) * t >= s
                    for s, k, t, p in zip((11, 9), kernel, stride, pad, strict=True)]  # fmt: skip
            assert not pad.any() and any(ends)
            continue
        inputs, outputs = run(model)
        expected = reference.pool(inputs["x"], mode, tuple(kernel), tuple(stride), tuple(pad))
        assert relative_error(outputs["p"], expected) < 1e-6, (mode, kernel, stride, pad)
        checked[mode] += 1
        corrected += any(node.op_type == "Mul" for node in model.graph.node)
    assert min(checked.values()) > 30 and corrected > 5


ALL_LAYERS = (
    INPUT
    + """
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1" param { lr_mult: 1 } convolution_param {
  num_output: 6 kernel_size: 3 kernel_size: 2 pad_h: 2 pad_w: 1 stride: 1 dilation: 2 group: 2
  weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" batch_norm_param { use_global_stats: true eps: 1e-3 } }
layer { name: "sc" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" relu_param { negative_slope: 0.1 } }
layer { name: "n1" type: "LRN" bottom: "c1" top: "n1" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 } }
layer { name: "n2" type: "LRN" bottom: "n1" top: "n2" lrn_param {
  local_size: 3 alpha: 0.9 norm_region: WITHIN_CHANNEL } }
layer { name: "split" type: "Split" bottom: "n2" top: "s1" top: "s2" }
layer { name: "train" type: "Dropout" bottom: "s1" top: "gone" include { phase: TRAIN } }
layer { name: "drop" type: "Dropout" bottom: "s1" top: "s1" include { phase: TEST } }
layer { name: "mul" type: "Eltwise" bottom: "s1" bottom: "s2" bottom: "n1" top: "mul" eltwise_param {
  operation: PROD } }
layer { name: "sum" type: "Eltwise" bottom: "n2" bottom: "mul" top: "sum" eltwise_param { coeff: 1 coeff: -0.5 } }
layer { name: "max" type: "Eltwise" bottom: "n2" bottom: "sum" top: "max" eltwise_param { operation: MAX } }
layer { name: "cat" type: "Concat" bottom: "max" bottom: "sum" top: "cat" }
layer { name: "tanh" type: "TanH" bottom: "cat" top: "tanh" }
layer { name: "re" type: "Reshape" bottom: "tanh" top: "re" reshape_param {
  shape { dim: 0 dim: 3 dim: 4 } num_axes: 2 } }
layer { name: "flat" type: "Flatten" bottom: "re" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 7 } }
layer { name: "sig" type: "Sigmoid" bottom: "ip" top: "sig" }
layer { name: "ip2" type: "InnerProduct" bottom: "sig" top: "ip2" inner_product_param {
  num_output: 5 bias_term: false transpose: true } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }
layer { name: "gap" type: "Pooling" bottom: "cat" top: "gap" pooling_param { pool: AVE global_pooling: true } }
"""
)


def all_layers(x: np.ndarray, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of ALL_LAYERS."""
    w = {name: array.astype(np.float64) for name, array in w.items()}
    y = reference.convolution(x, w["c1:weight"], w["c1:bias"], (1, 1), (2, 1), (2, 2), 2)
    mean, variance = (w[f"bn:{name}"][:, None, None] for name in ("mean", "variance"))
    y = (y - mean) / np.sqrt(variance + 1e-3) * w["sc:scale"] + w["sc:bias"]
    n1 = reference.lrn(np.where(y > 0, y, 0.1 * y), 3, 0.5, 0.6, 2.0, False)
    n2 = reference.lrn(n1, 3, 0.9, 0.75, 1.0, True)
    total = n2 - 0.5 * (n2 * n2 * n1)
    cat = np.concatenate([np.maximum(n2, total), total], 1)
    flat = np.tanh(cat).reshape(len(x), -1)
    sig = 1 / (1 + np.exp(-(flat @ w["ip:weight"].T + w["ip:bias"])))
    logits = np.exp(sig @ w["ip2:weight"])
    return {"prob": logits / logits.sum(1, keepdims=True), "gap": cat.mean((2, 3), keepdims=True)}


def test_every_layer_computes_what_caffe_computes(tmp_path: Path) -> None:
    model = read_model(net(tmp_path, ALL_LAYERS), None, 5)
    inputs, outputs = run(model)
    expected = all_layers(inputs["x"].astype(np.float64), weights_of(model))
    assert list(outputs) == ["prob", "gap"]
    for name, array in expected.items():
        assert relative_error(outputs[name], array) < 1e-5, name


SMALL = (
    INPUT
    + """
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "sc" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "ip" type: "InnerProduct" bottom: "c1" top: "ip" inner_product_param { num_output: 7 } }
"""
)


def test_compile_and_check_on_the_command_line(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = net(tmp_path, SMALL), tmp_path / "out"
    options = ["--shape", "x=1,4,11,9", "--tuning-log", str(log), "--budget", "1"]
    assert main(["compile", str(path), "-o", str(folder), "--seed-weights", "5", *options]) == 0
    assert [i["shape"] for i in json.loads((folder / "plan.json").read_text())["inputs"]] == [[1, 4, 11, 9]]
    assert main(["check", str(folder), str(path)]) == 0
    assert main(["check", str(folder), str(path), "--seed-weights", "6"]) == 1
    capsys.readouterr()
    assert main(["compile", str(path), "-o", str(folder), *options]) == 2
    assert "--seed-weights N" in capsys.readouterr().err
    again = ["compile", str(path), "-o", str(folder), "--seed-weights", "5", "--solver", "family:none", *options]
    assert main([*again, "--budget", "0"]) == 2
    assert "there is no family 'none'" in capsys.readouterr().err


def test_the_older_format_is_the_same_network(tmp_path: Path) -> None:
    new = 'name: "n" input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n' + "\n".join(
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {param} }}'
        for name, kind, bottom, top, param in (
            ("c", "Convolution", "x", "c", "convolution_param { num_output: 4 kernel_size: 3 }"),
            ("r", "ReLU", "c", "c", ""),
            ("p", "Pooling", "c", "p", "pooling_param { kernel_size: 2 stride: 2 }"),
            ("f", "InnerProduct", "p", "f", "inner_product_param { num_output: 5 }"),
            ("s", "Softmax", "f", "s", ""),
        )
    )
    old = new.replace("layer {", "layers {")
    for kind, name in (("Convolution", "CONVOLUTION"), ("ReLU", "RELU"), ("Pooling", "POOLING"),
                       ("InnerProduct", "INNER_PRODUCT"), ("Softmax", "SOFTMAX")):  # fmt: skip
        old = old.replace(f'type: "{kind}"', f"type: {name}")
    assert load_caffe(net(tmp_path, old)) == load_caffe(net(tmp_path, new))


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field as protobuf writes it, by hand: the numbers are the format, not our schema's."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array: np.ndarray) -> bytes:
    dims = field(7, field(1, b"".join(bytes([d]) for d in array.shape)))
    return dims + field(5, struct.pack(f"<{array.size}f", *array.ravel()))


def test_weights_of_a_caffemodel(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    weight, bias = random.standard_normal((6, 4, 3, 3)), random.standard_normal(6)
    mean, variance, batches = random.standard_normal(6), random.random(6) + 1, 4.0
    layers = {
        "c": (weight, bias),
        "bn": (mean * batches, variance * batches, np.array([batches])),
        "elsewhere": (np.ones(3),),
    }
    binary = b"".join(
        field(100, field(1, name.encode()) + field(2, b"BatchNorm" if name == "bn" else b"Other")
              + b"".join(field(7, blob(array)) for array in arrays))
        for name, arrays in layers.items()
    )  # fmt: skip
    path = net(tmp_path, INPUT + """
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 6 kernel_size: 3 } }
        layer { name: "bn" type: "BatchNorm" bottom: "c" top: "bn" }""")  # fmt: skip
    weights = tmp_path / "net.caffemodel"
    weights.write_bytes(binary)
    inputs, outputs = run(read_model(path, None, None, weights))
    expected = reference.convolution(inputs["x"], weight, bias, (1, 1), (0, 0), (1, 1), 1)
    expected = (expected - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    assert relative_error(outputs["bn"], expected) < 1e-5

    for bad, message in ((binary[:-5], "not a readable .caffemodel"), (b"", "no weights"),
                         (binary.replace(b"\x01c", b"\x01d"), "has no weight")):  # fmt: skip
        weights.write_bytes(bad)
        with pytest.raises(UserError, match=message):
            read_model(path, None, None, weights)
    with pytest.raises(UserError, match="only a Caffe network"):
        read_model(tmp_path / "net.onnx", None, None, weights)


POOL = 'layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param {{ {} }} }}'
CONV = 'layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ {} }} }}'
HOSTILE = {
    "": "no Input layer",
    "\x00\xff": "not a Caffe network",
    "{" * 200_000: "not a Caffe network",
    'layer { name: "a" type: "Input" top: "x" ' * 5000: "not a Caffe network",
    INPUT: "no layers",
    INPUT + 'layer { name: "a" type: "ReLU" bottom: "y" top: "z" }': "no layer before it writes its bottom 'y'",
    INPUT + 'layer { name: "a" type: "ReLU" top: "z" }': "0 bottoms",
    INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" }': "0 tops",
    INPUT + 'layer { name: "a" type: "SoftmaxWithLoss" bottom: "x" top: "z" }': "SoftmaxWithLoss are not supported",
    INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" top: "z" } ' * 2: "another layer has this name",
    INPUT + 'layer { type: "ReLU" bottom: "x" top: "z" }': "it has no name",
    INPUT + "".join(f'layer {{ name: "{n}" type: "ReLU" bottom: "x" top: "z" }}' for n in "ab"): "another layer writes",
    INPUT + CONV.format("num_output: 4000000000 kernel_size: 3"): "2 GiB",
    INPUT + CONV.format("num_output: 0 kernel_size: 3"): "4 channels to 0",
    INPUT + CONV.format("num_output: 4"): "0 values of kernel_size",
    INPUT + CONV.format("num_output: 4 kernel_size: 3 stride: 0"): "stride",
    INPUT + CONV.format("num_output: 6 kernel_size: 3 group: 3"): "groups",
    INPUT + CONV.format("num_output: 4 kernel_size: 30"): "would have the shape",
    INPUT + CONV.format("num_output: 4 kernel_size: 3 dilaton: 2"): 'no field named "dilaton"',
    INPUT + CONV.format("num_output: 4 kernel_size: -3"): "out of range",
    INPUT + CONV.format("num_output: 4 kernel_size: 1 pad: 4000000000"): "would have the shape",
    INPUT + POOL.format("kernel_size: 3 stride: 0"): "stride 0",
    INPUT + POOL.format("kernel_size: 3 pad: 3"): "padding 3",
    INPUT + POOL.format("kernel_size: 30"): "a window of 30",
    INPUT + POOL.format("pool: STOCHASTIC kernel_size: 3"): "only MAX and AVE",
    INPUT + 'layer { name: "a" type: "Concat" bottom: "x" top: "z" concat_param { axis: 9 } }': "axis 9",
    INPUT + 'layer { name: "a" type: "Reshape" bottom: "x" top: "z" reshape_param { shape { dim: 5 } } }': "not fit",
    INPUT + 'layer { name: "a" type: "LRN" bottom: "x" top: "z" lrn_param { local_size: 4 } }': "not odd",
    INPUT + 'layer { name: "in:shape" type: "ReLU" bottom: "x" top: "z" } layer { name: "z" type: "InnerProduct" '
    'bottom: "z" top: "z:weight" inner_product_param { num_output: 3 } }': "clash",
    'input: "x" layer { name: "a" type: "ReLU" bottom: "x" top: "z" }': "--shape x=",
    'input: "x" input_dim: -1 input_dim: 3 layer { name: "a" type: "ReLU" bottom: "x" top: "z" }': "--shape x=",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_refused_and_how(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as refusal:
        load_caffe(net(tmp_path, text))
    assert HOSTILE[text] in str(refusal.value) and "net.prototxt" in str(refusal.value)


def test_files_that_are_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_caffe(tmp_path / "no.prototxt")
    with pytest.raises(UserError, match="larger than 4 MiB"):
        load_caffe(net(tmp_path, "#" * (5 << 20)))
