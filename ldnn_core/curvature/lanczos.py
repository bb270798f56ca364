"""Symmetric matrices made tridiagonal by products with vectors (Lanczos 1950), many at once.

Shapes: N matrices, P starts for each, Θ their size, m steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

BREAKDOWN: Final = 1e-13
"""A residual is nothing but rounding when it is below this times the largest element so far."""


def tridiagonal(products: Callable[[Tensor], Tensor], starts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Qᵀ H Q, where the columns of Q are an orthonormal basis of start, H start, ..., H^(m-1) start.

    Vectors are float64 and each is made orthogonal to *all* before it: without that, eigenvalues that have been found
    come again as ghosts.  The neighbours are removed first, so that what the full pass removes is small and one pass
    is enough.  Where the basis is complete for its start (a residual of nothing), it goes on with another direction,
    cut off from the ones before by an element 0 beside the diagonal: so eigenvalues of higher multiplicity are found,
    and nothing is divided by zero.

    Args:
        products: vectors (N, P, Θ) → H v, of any precision.
        starts: (N, P, Θ) float64, not zero.
        steps: m ≤ Θ.

    Returns:
        the diagonals (N, P, m) and what is beside them (N, P, m - 1), float64; not finite where a product is not.
    """
    shape, size = starts.shape[:2], starts.shape[2]
    basis = starts.new_empty(shape.numel(), steps, size)
    diagonal, beside = starts.new_zeros(shape.numel(), steps), starts.new_zeros(shape.numel(), steps)
    q = _unit(starts.reshape(-1, size))[0]
    for step in range(steps):
        basis[:, step] = q
        w = products(q.view(*shape, size)).to(starts).view_as(q)
        diagonal[:, step] = (w * q).sum(dim=1)
        if step == steps - 1:
            break
        w = w - diagonal[:, step, None] * q
        if step:
            w -= beside[:, step - 1, None] * basis[:, step - 1]
        known = basis[:, : step + 1]
        q, length = _unit(_without(w, known))
        scale = torch.maximum(diagonal.abs().amax(dim=1), beside.amax(dim=1))
        ended = length <= BREAKDOWN * scale
        if bool(ended.any()):
            fresh = _without(_without(any_direction(size, step, starts).expand_as(q), known), known)
            q = torch.where(ended[:, None], _unit(fresh)[0], q)
        beside[:, step] = length.masked_fill(ended, 0.0)
    return diagonal.view(*shape, steps), beside[:, :-1].view(*shape, steps - 1)


def quadrature(diagonal: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss's rule for the spectral measure of the starts (Golub & Welsch 1969).

    For a unit start v the sum of weights times f(nodes) is vᵀ f(H) v for every polynomial f of degree below 2 m; the
    nodes are Ritz values, the i-th largest never above the i-th largest eigenvalue.

    Args:
        diagonal: (..., m), finite.
        beside: (..., m - 1).

    Returns:
        nodes in rising order and weights that add to one, each (..., m).
    """
    matrix = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    nodes, vectors = torch.linalg.eigh(matrix)
    return nodes, vectors[..., 0, :].square()


def _without(w: Tensor, known: Tensor) -> Tensor:
    """Vectors (M, Θ) less their components along orthonormal ones (M, j, Θ)."""
    rows = w.unsqueeze(1)
    return torch.baddbmm(rows, torch.bmm(rows, known.mT), known, alpha=-1).squeeze(1)


def _unit(w: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (M, Θ) of length one, and what their lengths were, (M,)."""
    length = w.norm(dim=1)
    return w / length[:, None], length


def any_direction(size: int, step: int, like: Tensor) -> Tensor:
    """A vector (Θ,) that has nothing to do with a start; another one for every step, always the same."""
    places = torch.arange(1, size + 1, dtype=torch.float64, device=like.device)
    return torch.cos((step + 1.0) * places.square()).to(like.dtype)
