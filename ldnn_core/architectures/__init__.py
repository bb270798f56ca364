"""Kinds of network, by name; two numbers, width and depth, give each its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Final

from ldnn_core.architectures.mobilenet_v2 import mobilenet_v2
from ldnn_core.architectures.resnet import resnet
from ldnn_core.architectures.vgg_he import vgg_he
from ldnn_core.losses import Loss
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Network


def mlp(shape: Sequence[int], outputs: int, width: int, depth: int, loss: Loss) -> MlpSpec:
    """Fully connected: ``depth`` hidden layers of ``width`` units; inputs of any shape are flattened."""
    return MlpSpec(prod(shape), (width,) * depth, outputs, loss)


Builder = Callable[[Sequence[int], int, int, int, Loss], Network]
"""(shape of an input, outputs, width, depth, loss) → network."""

ARCHITECTURES: Final[dict[str, Builder]] = {
    "mlp": mlp,
    "vgg_he": vgg_he,
    "resnet": resnet,
    "mobilenet_v2": mobilenet_v2,
}
"""What a recipe may name."""

WIDTHS: Final[dict[str, str]] = {
    "mlp": "neurons per hidden layer",
    "vgg_he": "filters of the first block, 32 as published; each further block has twice as many",
    "resnet": "channels of the first stage, 16 as published",
    "mobilenet_v2": "channels of the first layer, 32 as published",
}
"""What width means for each."""

DEPTHS: Final[dict[str, str]] = {
    "mlp": "hidden layers",
    "vgg_he": "blocks of two convolutions",
    "resnet": "n residual blocks in each of three stages, 6n + 2 layers",
    "mobilenet_v2": "of the published repeats of each stage at most this many",
}
"""What depth means for each."""

__all__ = ["ARCHITECTURES", "DEPTHS", "WIDTHS", "Builder", "mlp", "mobilenet_v2", "resnet", "vgg_he"]
