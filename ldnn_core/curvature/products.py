"""Products of the Hessians of a batch of networks with vectors.

Shapes: N networks, Θ parameters of one network, R rows, P vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation
from ldnn_core.curvature.linearized import linearized_pieces
from ldnn_core.curvature.mlp_products import MlpProducts
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Network, loss_gradient_autograd

Products = Callable[[Tensor], Tensor]
"""Vectors (N, P, Θ) → H v, (N, P, Θ), in the type of the parameters."""

ROWS_AT_ONCE = 800
"""Rows in one product by autograd; the loss is a mean over rows, so products of pieces are averaged."""


def hessian_vector_product(
    network: Network, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, v: Tensor
) -> Tensor:
    """H v of every network, (N, Θ), where H is the Hessian of its loss in its parameters.

    A learned activation goes by the engine's own tangents, `Network.gradient_vjp` with no cotangent of the loss; any
    other by autograd.  It needs no preparation; for many vectors at the same networks see `hessian_products`.

    Args:
        network: the kind of network.
        parameters: (N, Θ).
        x: (N or 1, B, ...).
        y: targets, (N or 1, B, ...).
        activation: of the hidden layers.
        v: (N, Θ).
    """
    if isinstance(activation, BankActivation):
        nothing = parameters.new_zeros(len(parameters))
        return network.gradient_vjp(parameters, x, y, activation, v, nothing)[0]
    leaf = parameters.detach().requires_grad_()
    _, gradient = loss_gradient_autograd(network, leaf, x, y, activation, create_graph=True)
    (product,) = torch.autograd.grad(gradient, leaf, v)
    return product


def hessian_products(
    network: Network, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, vectors: int = 1
) -> Products:
    """A function that multiplies vectors (N, P, Θ) by the Hessians of these networks.

    Fully connected networks are linearised once, at all rows; any other network goes by `hessian_vector_product`.

    Args:
        network: the kind of network.
        parameters: (N, Θ).
        x: all rows, (R, ...).
        y: their targets, (R, ...).
        activation: of the hidden layers.
        vectors: how many vectors of a network will come at once; any other number works, less fast.
    """
    if not isinstance(network, MlpSpec):
        return _by_autograd(network, parameters, x, y, activation)
    return MlpProducts(network, linearized_pieces(network, parameters, x, y, activation, vectors))


def _by_autograd(network: Network, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation) -> Products:
    def products(v: Tensor) -> Tensor:
        v = v.to(parameters)
        out = torch.zeros_like(v)
        for index in range(v.shape[1]):
            own = v[:, index].contiguous()
            for start in range(0, len(x), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                product = hessian_vector_product(network, parameters, x[None, rows], y[None, rows], activation, own)
                out[:, index] += product * (len(x[rows]) / len(x))
        return out

    return products
