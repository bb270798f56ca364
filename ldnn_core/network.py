"""What the inner loop needs of a batch of networks, whatever they are made of.

Shapes: N networks, Θ parameters of one network, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation, UsualActivation
from ldnn_core.losses import Loss

Noise = tuple[Tensor, ...]
"""For each hidden layer what is added to its units, (N or 1, B, H); none if there is no such noise.  Then, for each
place that drops units, numbers in (-1, 1) that say which, (N or 1, B, U)."""


class Layer(NamedTuple):
    """A hidden layer, before and after its activation; both (N, B, H)."""

    pre: Tensor
    units: Tensor


class Network(Protocol):
    """A kind of network; N of them are a tensor of parameters (N, Θ).

    Pure: parameters come in and gradients go out.  `ldnn_core.mlp.MlpSpec` is differentiated by hand,
    `ldnn_core.modules.ModuleNetwork` wraps any `torch.nn.Module`.
    """

    def __hash__(self) -> int:
        """Equal kinds have the same."""
        ...

    @property
    def loss(self) -> Loss:
        """What it is trained on."""
        ...

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of each layer that noise can be added to; empty if none."""
        ...

    @property
    def dropped(self) -> tuple[int, ...]:
        """Units of each place that drops some of them while it trains; empty if none."""
        ...

    @property
    def channels(self) -> tuple[int, ...]:
        """Units of each activation that may have different types."""
        ...

    @property
    def blocks(self) -> tuple[int, ...]:
        """To which block of layers each activation belongs."""
        ...

    @property
    def num_params(self) -> int:
        """Θ."""
        ...

    def initial_parameters(self, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
        """One random network per generator, (len(generators), Θ), on the CPU."""
        ...

    def forward(
        self, parameters: Tensor, x: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, list[Layer]]:
        """Outputs (N, B, C) and hidden layers, differentiable by autograd; x is (N or 1, B, ...)."""
        ...

    def settled(self, parameters: Tensor, activation: Activation, x: Tensor) -> Network:
        """These trained networks as they are judged, after a look at rows (R, ...) that they were trained on.

        What depends on the other rows of a batch while a network trains is fixed; most networks have no such thing.
        """
        ...

    def loss_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, Tensor]:
        """Loss (N,) and its gradient g (N, Θ), without a graph."""
        ...

    def gradient_vjp(
        self,
        parameters: Tensor,
        x: Tensor,
        y: Tensor,
        activation: BankActivation,
        v: Tensor,
        w: Tensor,
        noise: Noise = (),
    ) -> tuple[Tensor, Tensor]:
        """Pull cotangents v of g and w of the loss back: to the parameters, H v + w g, and to the bank."""
        ...


@lru_cache(maxsize=16)
def widest_layer(network: Network, shape: tuple[int, ...]) -> int:
    """Numbers in the widest hidden layer of one network for one row.

    Args:
        network: any kind.
        shape: of the input of a row.
    """
    if network.hidden:
        return max(network.hidden)
    # only a sweep tells how wide the layers of a module are; one without numbers is enough
    x, flat = torch.zeros(1, 2, *shape, device="meta"), torch.zeros(1, network.num_params, device="meta")
    with torch.no_grad():
        layers = network.forward(flat, x, UsualActivation("relu"))[1]
    return max((layer.pre[0, 0].numel() for layer in layers), default=1)


def loss_gradient_autograd(
    network: Network,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    activation: Activation,
    noise: Noise = (),
    *,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """`Network.loss_gradient` from `Network.forward` and autograd alone: the general way, and an oracle."""
    with torch.enable_grad():
        if not parameters.requires_grad:
            parameters = parameters.detach().requires_grad_()
        loss = network.loss.value(network.forward(parameters, x, activation, noise)[0], y)
        (gradient,) = torch.autograd.grad(loss.sum(), parameters, create_graph=create_graph)
    return (loss if create_graph else loss.detach()), gradient


def gradient_vjp_autograd(
    network: Network,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    activation: BankActivation,
    v: Tensor,
    w: Tensor,
    noise: Noise = (),
) -> tuple[Tensor, Tensor]:
    """`Network.gradient_vjp` from `Network.forward` and autograd alone."""
    bank = activation.bank
    parameters = parameters.detach().requires_grad_()
    learned = bank.parameters.detach().requires_grad_()
    with torch.enable_grad():
        leaf_activation = BankActivation(bank.replaced(learned), activation.functions)
        loss, gradient = loss_gradient_autograd(network, parameters, x, y, leaf_activation, noise, create_graph=True)
        parameters_cotangent, learned_cotangent = torch.autograd.grad([gradient, loss], [parameters, learned], [v, w])
    return parameters_cotangent, learned_cotangent
