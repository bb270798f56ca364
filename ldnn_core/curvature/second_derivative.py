"""The second derivative of an activation, which products with a Hessian need once."""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation, GroupedActivation, TableBank


def value_slope_curvature(activation: Activation, a: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """σ(a), σ'(a) and σ''(a), each (N, B, H), without a graph.

    A table answers for itself; of everything else the slope is differentiated by autograd, element by element.  A
    second derivative costs as much as a few products with the Hessian at most, and is asked for once.

    Args:
        activation: of the layer.
        a: pre-activations, (N, B, H).
        layer: which hidden layer.
    """
    if isinstance(activation, GroupedActivation):
        parts = a.split([count for _, count in activation.groups])
        triples = [
            value_slope_curvature(one, own, layer) for (one, _), own in zip(activation.groups, parts, strict=True)
        ]
        value, slope, curvature = (torch.cat(columns) for columns in zip(*triples, strict=True))
        return value, slope, curvature
    if isinstance(activation, BankActivation) and isinstance(activation.bank, TableBank):
        return activation.bank.value_slope_curvature(a, activation.functions[layer])
    with torch.enable_grad():
        leaf = a.detach().requires_grad_()
        value, slope = activation.value_slope(leaf, layer)
        # a straight or kinked function has a slope that follows from no differentiable operation
        curvature = torch.autograd.grad(slope.sum(), leaf)[0] if slope.requires_grad else torch.zeros_like(a)
    return value.detach(), slope.detach(), curvature
