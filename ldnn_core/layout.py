"""Which neuron of a layer is of which type: contiguous blocks, sizes that differ by at most one."""

from __future__ import annotations

import torch
from torch import Tensor


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
