"""Participation ratio: how many directions a hidden layer really uses.

X is N neurons × M inputs, centred per neuron; C = X Xᵀ / M;  R = (tr C)² / tr C²;  r = R / N (the paper).
With few inputs R is biased downwards, because tr of a squared estimate also holds its noise.  Two halves of the
inputs give independent estimates C₁, C₂, and  tr C₁ tr C₂ / tr(C₁ C₂)  has unbiased numerator and denominator.

Shapes: N networks, M inputs, H units.
"""

from __future__ import annotations

from torch import Tensor


def _covariance(h: Tensor) -> Tensor:
    centred = h - h.mean(dim=1, keepdim=True)
    return centred.transpose(1, 2) @ centred / (h.shape[1] - 1)


def _ratio(first: Tensor, second: Tensor) -> Tensor:
    traces = first.diagonal(dim1=1, dim2=2).sum(-1) * second.diagonal(dim1=1, dim2=2).sum(-1)
    product = (first * second).sum(dim=(1, 2))  # tr(C₁ C₂), as both are symmetric
    return traces / product


def participation_ratio(h: Tensor) -> Tensor:
    """R of each network's layer: (N, M, H) → (N,), between 1 and H; NaN for a constant layer.

    Args:
        h: H units of N networks for M inputs.

    Raises:
        ValueError: fewer than two inputs.
    """
    if h.shape[1] < 2:
        raise ValueError(f"a covariance needs at least 2 inputs, but got {h.shape[1]}")
    covariance = _covariance(h.double())
    return _ratio(covariance, covariance)


def corrected_participation_ratio(h: Tensor) -> Tensor:
    """R from two halves of the inputs, its numerator and denominator without bias: (N, M, H) → (N,).

    Even and odd inputs make the halves.  The result can exceed H slightly by chance.

    Args:
        h: H units of N networks for M inputs.

    Raises:
        ValueError: fewer than four inputs.
    """
    if h.shape[1] < 4:
        raise ValueError(f"two covariances need at least 4 inputs, but got {h.shape[1]}")
    h = h.double()
    return _ratio(_covariance(h[:, 0::2]), _covariance(h[:, 1::2]))
