"""Dense layers as one flat vector: layer by layer, weights (in × out, row by row) and then biases (out).

Shapes: Θ weights and biases of all layers.  ``sizes`` are (in, out) of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Sizes = Sequence[tuple[int, int]]


def count(sizes: Sizes) -> int:
    """Θ."""
    return sum(i * o + o for i, o in sizes)


def spread(values: Sequence[float], sizes: Sizes, dtype: torch.dtype = torch.float32) -> Tensor:
    """A number for each layer, given to all its weights and biases, (Θ,)."""
    return torch.cat([torch.full((i * o + o,), own, dtype=dtype) for own, (i, o) in zip(values, sizes, strict=True)])


def bounds(sizes: Sizes, dtype: torch.dtype = torch.float32) -> Tensor:
    """The half-width of the distribution that each number is drawn from, 1/√fan_in of its layer, (Θ,)."""
    return spread([i**-0.5 for i, _ in sizes], sizes, dtype)


def draw(sizes: Sizes, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
    """A random vector from each generator, (len(generators), Θ), on the CPU.

    Weights and biases of a layer are uniform in ±1/√fan_in, PyTorch's default for linear layers.  They are drawn in
    float64, so that other types differ by rounding alone.
    """
    rows = [torch.rand(count(sizes), generator=source, dtype=torch.float64) for source in generators]
    return (2 * torch.stack(rows).to(dtype) - 1) * bounds(sizes, dtype)


def split(flat: Tensor, sizes: Sizes) -> list[tuple[Tensor, Tensor]]:
    """Views of (..., Θ) as weights (..., in, out) and biases (..., 1, out)."""
    views, start = [], 0
    for i, o in sizes:
        end = start + i * o
        views.append((flat[..., start:end].unflatten(-1, (i, o)), flat[..., end : end + o].unsqueeze(-2)))
        start = end + o
    return views
