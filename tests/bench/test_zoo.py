"""The networks of the benchmark: the real architectures, and any batch size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.globalsel import nets
from tvm_globalsel.bench.zoo.architectures import mobilenet_v2, resnet18
from tvm_globalsel.bench.zoo.make import make, names
from tvm_globalsel.errors import UserError
from tvm_globalsel.frontends.batch import set_batch
from tvm_globalsel.frontends.onnx import prepare
from tvm_globalsel.verify import reference_session

ROOT = Path(__file__).parents[2]


def trainable(model: onnx.ModelProto) -> int:
    statistics = (".mean", ".var")
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if not t.name.endswith(statistics))


def test_architectures_have_the_published_parameters() -> None:
    assert trainable(resnet18()) == 11_689_512  # torchvision's counts
    assert trainable(mobilenet_v2()) == 3_504_872


def test_every_network_is_listed() -> None:
    assert set(names()) == {
        "alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
        "zfnet512", "resnet18", "vgg16", "mobilenet_v2",
    }  # fmt: skip
    with pytest.raises(UserError, match="'lenet' is not a network of the zoo"):
        make("lenet", ROOT)


def test_script_writes_a_checked_network(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/make_zoo.py", str(tmp_path), "squeezenet", "--batch", "2", "--seed", "3"]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = onnx.load(str(tmp_path / "squeezenet.onnx"))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 4]
    assert weights and all(w.std() > 0 for w in weights)


def test_a_batch_computes_its_images() -> None:
    single = prepare(onnx.load(str(nets.light("shufflenet"))), seed=0)  # 33 reshapes that name the batch
    double = onnx.ModelProto()
    double.CopyFrom(single)
    set_batch(double, 2)
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
    name = single.graph.input[0].name
    (together,) = reference_session(double).run(None, {name: images})
    session = reference_session(single)
    alone = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    assert together.shape == (2, 1000)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-7)


def test_inputs_without_a_common_batch_are_refused() -> None:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Concat", ["a", "b"], ["y"], axis=0)
    graph = onnx.helper.make_graph([node], "g", [value("a", 1, [1, 3]), value("b", 1, [2, 3])], [value("y", 1, [3, 3])])
    with pytest.raises(UserError, match="no common leading size"):
        set_batch(onnx.helper.make_model(graph), 4)
