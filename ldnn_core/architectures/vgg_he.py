"""VGG-HE-n (Schweickert 2022): n blocks of two convolutions each, He-uniform weights.

Block b = 1..n is [convolution 3×3, activation, batch norm] twice, max-pooling 2, dropout 0.1 + 0.1 b, with
2^(4+b) filters; then a dense layer with the last number of filters, activation, batch norm, dropout 0.1 + 0.1 (n + 1),
and the output.  Max-pooling leaves out a last odd row and column.

Parameters with f_b filters, f_0 channels of the input and s = (height ÷ 2^n)(width ÷ 2^n), floors at each halving:

    Σ_b [(9 f_(b-1) + 1) f_b + (9 f_b + 1) f_b + 4 f_b]  +  (s f_n + 1) f_n + 2 f_n  +  (f_n + 1) outputs
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ldnn_core.architectures._images import image_shape
from ldnn_core.losses import Loss
from ldnn_core.modules import ModuleNetwork
from ldnn_core.slots import ActivationSlot, BatchNorm, Drop


def vgg_he(shape: Sequence[int], outputs: int, width: int, depth: int, loss: Loss) -> ModuleNetwork:
    """VGG-HE-``depth`` with ``width`` filters in its first block (32 as published).

    Raises:
        ValueError: inputs are no images, or too small to be halved ``depth`` times, or there would be so many blocks
            that all units were dropped.
    """
    channels, height, breadth = image_shape("vgg_he", shape)
    if min(height, breadth) >> depth < 1:
        raise ValueError(
            f"2^depth <= height and width of an image must hold for vgg_he, but got (depth={depth}, height={height}, "
            f"width={breadth})"
        )
    if depth > 7:
        raise ValueError(f"depth <= 7 must hold for vgg_he, whose dropout grows with depth, but got depth={depth}")
    layers: list[nn.Module] = []
    for block in range(depth):
        filters = width << block
        for _ in range(2):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), ActivationSlot(filters, block), BatchNorm(filters)]
            channels = filters
        layers += [nn.MaxPool2d(2), Drop(_dropout(block + 1))]
    flat = channels * (height >> depth) * (breadth >> depth)
    dense = [nn.Flatten(), nn.Linear(flat, channels), ActivationSlot(channels, depth), BatchNorm(channels)]
    layers += [*dense, Drop(_dropout(depth + 1)), nn.Linear(channels, outputs)]
    return ModuleNetwork(nn.Sequential(*layers), loss, inputs=shape, initial="he_uniform")


def _dropout(block: int) -> float:
    return (1 + block) / 10
