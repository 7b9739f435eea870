"""The five networks of the CGO 2018 paper's evaluation, as Caffe networks.

AlexNet and GoogLeNet are BVLC's own deploy networks. VGG-B, -C and -E follow table 1 of Simonyan and Zisserman, "Very
deep convolutional networks for large-scale image recognition" (ICLR 2015); E is VGG-19.
"""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent.parent / "tests/data/caffe"

#: (channels, kernel) of each convolution, a group for each resolution.
_VGG: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = {
    "vgg_b": tuple(((k, 3),) * 2 for k in (64, 128, 256, 512, 512)),
    "vgg_c": (((64, 3),) * 2, ((128, 3),) * 2, *(((k, 3), (k, 3), (k, 1)) for k in (256, 512, 512))),
    "vgg_e": (((64, 3),) * 2, ((128, 3),) * 2, *(((k, 3),) * 4 for k in (256, 512, 512))),
}
_FILES = {"alexnet": ("bvlc_alexnet.prototxt", 227), "googlenet": ("bvlc_googlenet.prototxt", 224)}

NETS = ("alexnet", "vgg_b", "vgg_c", "vgg_e", "googlenet")
TITLES = {"alexnet": "AlexNet", "vgg_b": "VGG-B", "vgg_c": "VGG-C", "vgg_e": "VGG-E", "googlenet": "GoogLeNet"}


def prototxt(net: str, folder: Path) -> tuple[Path, dict[str, tuple[int, ...]]]:
    """The network's file, made in ``folder`` where it is not one of BVLC's, and its input's shape (batch 1)."""
    if net in _FILES:
        name, size = _FILES[net]
        return DATA / name, {"data": (1, 3, size, size)}
    path = folder / f"{net}.prototxt"
    path.write_text(vgg(net))
    return path, {"data": (1, 3, 224, 224)}


def vgg(net: str) -> str:
    """A VGG network in Caffe's text format."""
    shape = "input_param { shape { dim: [1, 3, 224, 224] } }"
    layers = [f'name: "{TITLES[net]}"', _layer("data", "Input", None, shape)]
    blob = "data"
    for group, convolutions in enumerate(_VGG[net], start=1):
        for number, (channels, kernel) in enumerate(convolutions, start=1):
            name = f"conv{group}_{number}"
            param = f"convolution_param {{ num_output: {channels} kernel_size: {kernel} pad: {kernel // 2} }}"
            layers += [
                _layer(name, "Convolution", blob, param),
                _layer(f"relu{group}_{number}", "ReLU", name, "", name),
            ]
            blob = name
        layers.append(_layer(f"pool{group}", "Pooling", blob, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"))
        blob = f"pool{group}"
    for number, outputs in ((6, 4096), (7, 4096), (8, 1000)):
        name = f"fc{number}"
        layers.append(_layer(name, "InnerProduct", blob, f"inner_product_param {{ num_output: {outputs} }}"))
        if number < 8:
            layers.append(_layer(f"relu{number}", "ReLU", name, "", name))
            layers.append(_layer(f"drop{number}", "Dropout", name, "", name))
        blob = name
    layers.append(_layer("prob", "Softmax", blob))
    return "\n".join(layers) + "\n"


def _layer(name: str, kind: str, bottom: str | None, param: str = "", top: str = "") -> str:
    read = f' bottom: "{bottom}"' if bottom else ""
    return f'layer {{ name: "{name}" type: "{kind}"{read} top: "{top or name}" {param} }}'
