"""ResNet for small images (He et al. 2016, section 4.2): 6n + 2 layers, shortcuts without parameters (option A).

A first convolution, three stages of n residual blocks of two convolutions with w, 2w and 4w channels (16, 32 and 64 as
published), of which the second and third halve the image, the mean over the image, and a linear output.  Parameters,
without biases before batch normalisation, with c channels of the input:

    9 c w + 2 w  +  Σ_stages [9 f_in f + 9 f f + 4 f + (n - 1)(18 f f + 4 f)]  +  (4 w + 1) outputs
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldnn_core.architectures._images import MeanOverImage, convolution, image_shape
from ldnn_core.losses import Loss
from ldnn_core.modules import ModuleNetwork
from ldnn_core.slots import ActivationSlot


class _Residual(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int, block: int) -> None:
        super().__init__()
        self.first = convolution(channels, filters, 3, stride=stride)
        self.inner = ActivationSlot(filters, block)
        self.second = convolution(filters, filters, 3)
        self.outer = ActivationSlot(filters, block)
        self.stride, self.more = stride, filters - channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            nothing = shortcut.new_zeros(len(x), self.more, *shortcut.shape[2:])
            shortcut = torch.cat([shortcut, nothing], dim=1)
        y: Tensor = self.outer(self.second(self.inner(self.first(x))) + shortcut)
        return y


def resnet(shape: Sequence[int], outputs: int, width: int, depth: int, loss: Loss) -> ModuleNetwork:
    """ResNet-(6 ``depth`` + 2) with ``width`` channels in its first stage; a stage is a block for mixing.

    Raises:
        ValueError: inputs are no images.
    """
    channels, _, _ = image_shape("resnet", shape)
    layers: list[nn.Module] = [convolution(channels, width, 3), ActivationSlot(width, 0)]
    channels = width
    for stage in range(3):
        filters = width << stage
        for place in range(depth):
            layers.append(_Residual(channels, filters, 2 if stage and not place else 1, stage))
            channels = filters
    layers += [MeanOverImage(), nn.Linear(channels, outputs)]
    return ModuleNetwork(nn.Sequential(*layers), loss, initial="he_uniform")
