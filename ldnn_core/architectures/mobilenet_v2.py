"""MobileNetV2 (Sandler et al. 2018, table 2): inverted residuals with linear bottlenecks.

A first convolution, seven stages of inverted residuals (expansion t, channels c, repeats n, stride s), a convolution to
1280 channels, the mean over the image, and a linear output.  Strides are those of table 2 for images of 128 pixels and
more; for smaller ones the first convolution and the second stage keep the size, as is usual for CIFAR.  With 1000
outputs and three input channels it has 3 504 872 parameters, as torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from ldnn_core.architectures._images import MeanOverImage, convolution, image_shape
from ldnn_core.losses import Loss
from ldnn_core.modules import ModuleNetwork
from ldnn_core.slots import ActivationSlot, Drop

STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repeats and stride of each stage."""

LAST: Final = 1280
LARGE: Final = 128


class _Inverted(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int, expansion: int, block: int) -> None:
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [convolution(channels, inner, 1), ActivationSlot(inner, block)]
        layers += [convolution(inner, inner, 3, stride=stride, groups=inner), ActivationSlot(inner, block)]
        self.layers = nn.Sequential(*layers, convolution(inner, filters, 1))
        self.residual = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def mobilenet_v2(shape: Sequence[int], outputs: int, width: int, depth: int, loss: Loss) -> ModuleNetwork:
    """MobileNetV2 with ``width`` channels in its first layer (32 as published); a stage is a block for mixing.

    All channels scale with the width as published: to the nearest multiple of 8, not more than a tenth below, and the
    last convolution only upwards.

    Args:
        shape: (C, height, width) of an image.
        outputs: of the network.
        width: channels of the first layer.
        depth: repeats of a stage, at most the published ones: 4 for all of them.
        loss: what it is trained on.

    Raises:
        ValueError: inputs are no images.
    """
    channels, height, breadth = image_shape("mobilenet_v2", shape)
    factor, large = width / 32, min(height, breadth) >= LARGE
    layers: list[nn.Module] = [
        convolution(channels, width, 3, stride=2 if large else 1),
        ActivationSlot(width, 0),
    ]
    channels = width
    for stage, (expansion, published, repeats, stride) in enumerate(STAGES):
        filters = _divisible(published * factor)
        step = stride if large or stage != 1 else 1
        for place in range(min(repeats, depth)):
            layers.append(_Inverted(channels, filters, 1 if place else step, expansion, stage + 1))
            channels = filters
    last = _divisible(LAST * max(1.0, factor))
    layers += [convolution(channels, last, 1), ActivationSlot(last, len(STAGES) + 1)]
    layers += [MeanOverImage(), Drop(0.2), nn.Linear(last, outputs)]
    return ModuleNetwork(nn.Sequential(*layers), loss, inputs=shape, initial="he_uniform")


def _divisible(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
