"""ResNet-18, VGG-16 and MobileNetV2 as torchvision has them (224 x 224 input, 1000 classes), weights unset."""

from __future__ import annotations

import onnx

from tvm_globalsel.bench.zoo.builder import Builder

_CLASSES = 1000


def resnet18(batch: int = 1) -> onnx.ModelProto:
    """He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1."""
    net = Builder("resnet18", batch)
    x = net.relu(net.batch_norm(net.conv(net.input, 64, 7, stride=2)))
    x = net.max_pool(x, 3, 2, pad=1)
    for channels, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first_stride, 1):
            y = net.relu(net.batch_norm(net.conv(x, channels, 3, stride)))
            y = net.batch_norm(net.conv(y, channels, 3))
            if stride != 1 or net.channels(x) != channels:
                x = net.batch_norm(net.conv(x, channels, 1, stride))
            x = net.relu(net.add(y, x))
    return net.model(net.dense(net.flatten(net.global_average(x)), _CLASSES))


def vgg16(batch: int = 1) -> onnx.ModelProto:
    """Simonyan and Zisserman, "Very Deep Convolutional Networks" (ICLR 2015), table 1, configuration D."""
    net = Builder("vgg16", batch)
    x = net.input
    for channels, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            x = net.relu(net.conv(x, channels, 3, bias=True))
        x = net.max_pool(x, 2, 2)
    x = net.flatten(x)
    for _ in range(2):
        x = net.relu(net.dense(x, 4096))
    return net.model(net.dense(x, _CLASSES))


#: Expansion, output channels, repetitions, stride of the first (Sandler et al., table 2).
_BOTTLENECKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def mobilenet_v2(batch: int = 1) -> onnx.ModelProto:
    """Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018), width 1."""
    net = Builder("mobilenet_v2", batch)
    x = net.relu6(net.batch_norm(net.conv(net.input, 32, 3, stride=2)))
    for expansion, channels, repetitions, first_stride in _BOTTLENECKS:
        for repetition in range(repetitions):
            stride = first_stride if repetition == 0 else 1
            hidden = net.channels(x) * expansion
            y = x if expansion == 1 else net.relu6(net.batch_norm(net.conv(x, hidden, 1)))
            y = net.relu6(net.batch_norm(net.conv(y, hidden, 3, stride, groups=hidden)))
            y = net.batch_norm(net.conv(y, channels, 1))
            x = net.add(x, y) if stride == 1 and net.channels(x) == channels else y
    x = net.relu6(net.batch_norm(net.conv(x, 1280, 1)))
    return net.model(net.dense(net.flatten(net.global_average(x)), _CLASSES))


BY_HAND = {"resnet18": resnet18, "vgg16": vgg16, "mobilenet_v2": mobilenet_v2}
