"""Cross-entropy and its derivatives as plain tensor arithmetic, compiled on an accelerator.

Shapes: N networks, B batch, C classes; outputs z (N, B, C), targets y (N or 1, B) int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.accelerator import CUDA


@CUDA.compiles
def value_slope(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss (N,) and its gradient by z, (softmax(z) - onehot(y)) / B."""
    target = y.expand(z.shape[:2]).unsqueeze(-1)
    log_p = torch.log_softmax(z, dim=-1)
    loss = -log_p.gather(-1, target).squeeze(-1).mean(dim=-1)
    return loss, _slope(log_p.exp(), target)


@CUDA.compiles
def slope_jvp(z: Tensor, y: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
    """That gradient and its tangent along dz, with p = softmax(z):  p ∘ (dz - ⟨p, dz⟩) / B."""
    p = torch.softmax(z, dim=-1)
    weighted = p * dz
    tangent = (weighted - p * weighted.sum(-1, keepdim=True)) / z.shape[1]
    return _slope(p, y.expand(z.shape[:2]).unsqueeze(-1)), tangent


def _slope(p: Tensor, target: Tensor) -> Tensor:
    onehot = torch.arange(p.shape[-1], device=p.device) == target
    return (p - onehot.to(p.dtype)) / p.shape[1]
