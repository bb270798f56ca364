"""What convolutional networks ask of their inputs, and a layer that they share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ldnn_core.slots import BatchNorm


def image_shape(name: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, height, width) of an image.

    Raises:
        ValueError: an input is no image.
    """
    if len(shape) != 3:
        raise ValueError(
            f"{name} needs images, inputs of shape (channels, height, width), but the task has inputs of shape "
            f"{tuple(shape)}: choose a task with images, or the architecture mlp"
        )
    channels, height, width = shape
    return channels, height, width


def convolution(channels: int, filters: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without biases that keeps the size (divided by the stride), then batch normalisation."""
    padding = size // 2
    layer = nn.Conv2d(channels, filters, size, stride, padding, groups=groups, bias=False)
    return nn.Sequential(layer, BatchNorm(filters))


class MeanOverImage(nn.Module):
    """(B, C, height, width) → (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of every channel."""
        return x.mean(dim=(2, 3))
