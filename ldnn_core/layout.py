"""Which neuron is of which type: within a layer contiguous parts, whose sizes differ by at most one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Mixing = Literal["within_layer", "per_layer", "per_block"]
"""Where the types of a set are told apart."""


def type_sizes(width: int, num_types: int) -> tuple[int, ...]:
    """Neurons per type; when K does not divide the width, the first types have one neuron more.

    Raises:
        ValueError: there are more types than neurons.
    """
    if not 1 <= num_types <= width:
        raise ValueError(f"1 <= num_types <= width must hold, but got (num_types={num_types}, width={width})")
    each, more = divmod(width, num_types)
    return tuple(each + (k < more) for k in range(num_types))


def mixed_types(width: int, num_types: int) -> Tensor:
    """Type index of each neuron of a mixed layer, (width,) int64."""
    return torch.repeat_interleave(torch.arange(num_types), torch.tensor(type_sizes(width, num_types)))


def pure_types(width: int, type_index: int) -> Tensor:
    """Type index of each neuron when all are of one type, (width,) int64."""
    return torch.full((width,), type_index)


def layer_types(channels: Sequence[int], blocks: Sequence[int], num_types: int, mixing: Mixing) -> tuple[Tensor, ...]:
    """Type index of each unit of every layer, (units,) int64 each.

    Args:
        channels: units of each layer.
        blocks: which block of the network each layer belongs to.
        num_types: K.
        mixing: ``within_layer`` spreads all types over every layer; ``per_layer`` gives layer after layer one type, in
            turn; ``per_block`` does so block after block.

    Raises:
        ValueError: a layer has fewer units than there are types.
    """
    if mixing == "within_layer":
        return tuple(mixed_types(width, num_types) for width in channels)
    places = range(len(channels)) if mixing == "per_layer" else blocks
    return tuple(pure_types(width, place % num_types) for width, place in zip(channels, places, strict=True))
