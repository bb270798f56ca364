"""Batches of fully connected networks, differentiated by hand.

    a_l = h_{l-1} W_l + b_l,   h_l = σ_l(a_l) (+ noise),   z = h_L W_{L+1} + b_{L+1},   loss(z, y)

Shapes: N networks, B batch, D inputs, H units, C outputs, Θ parameters of one network.
The parameters of a network are one row of a tensor (N, Θ): layer by layer, weights (in × out) and biases (out).
So an optimiser is a handful of operations on one tensor, whatever the depth.

`loss_gradient` is the whole of training; `gradient_vjp` is what the meta-gradient needs besides.  Both have an
oracle that is only `forward` and autograd, in `ldnn_core.network`.  Their sweeps run in torch's inference mode, which
makes an operation on a small tensor cheaper; what they return was made outside it and is like any other tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ldnn_core import dense
from ldnn_core.activations import Activation, BankActivation, TableBank
from ldnn_core.losses import Loss
from ldnn_core.network import Layer, Noise, gradient_vjp_autograd

BLOCK_BYTES = 640 << 10
"""On a CPU a batch of networks is swept in blocks whose widest hidden layer takes about this much memory, so that the
handful of tensors of its shape stay in the cache; 8 networks of 100 units with a batch of 200 in float32."""


@dataclass(frozen=True)
class MlpSpec:
    """Sizes of a fully connected network.

    Attributes:
        inputs: D.
        hidden: units of each hidden layer.
        outputs: C.
        loss: what it is trained on.
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    loss: Loss

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of every linear layer."""
        sizes = (self.inputs, *self.hidden, self.outputs)
        return tuple(pairwise(sizes))

    @property
    def dropped(self) -> tuple[int, ...]:
        """Nothing: no units are dropped."""
        return ()

    @property
    def channels(self) -> tuple[int, ...]:
        """Units of each activation: those of its hidden layer."""
        return self.hidden

    @property
    def blocks(self) -> tuple[int, ...]:
        """Every hidden layer is a block of its own."""
        return tuple(range(len(self.hidden)))

    @property
    def num_params(self) -> int:
        """Θ, weights and biases of one network."""
        return dense.count(self.layer_sizes)

    def initial_parameters(self, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
        """One random network per generator, (len(generators), Θ), on the CPU.

        Weights and biases of a layer are uniform in ±1/√fan_in, PyTorch's default for linear layers.
        """
        return dense.draw(self.layer_sizes, generators, dtype)

    def forward(
        self, parameters: Tensor, x: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, list[Layer]]:
        """Outputs and hidden layers, differentiable by autograd.

        Args:
            parameters: (N, Θ).
            x: inputs, (N or 1, B, D); of more axes, as of images, the last are flattened, here and in the other sweeps.
            activation: of all hidden layers.
            noise: added to hidden units.

        Returns:
            z (N, B, C) and the hidden layers.
        """
        if x.dim() > 3:
            x = x.flatten(2)
        layers = self.layers(parameters)
        h = x.expand(len(parameters), -1, -1)
        hidden = []
        for index, (weight, bias) in enumerate(layers[:-1]):
            a = torch.baddbmm(bias, h, weight)
            h = activation.value(a, index)
            if noise:
                h = h + noise[index]
            hidden.append(Layer(a, h))
        weight, bias = layers[-1]
        return torch.baddbmm(bias, h, weight), hidden

    def settled(self, parameters: Tensor, activation: Activation, x: Tensor) -> MlpSpec:
        """The same: nothing depends on the other rows of a batch."""
        return self

    def loss_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, Tensor]:
        """Loss (N,) and its gradient (N, Θ) by one forward and one backward sweep, without a graph.

        Arguments as for `forward`; y as the loss wants it.
        """
        if x.dim() > 3:
            x = x.flatten(2)
        loss, gradient = parameters.new_empty(parameters.shape[0]), torch.empty_like(parameters)
        size = _block_size(self, x)
        with torch.inference_mode():
            if parameters.shape[0] <= size:
                _loss_gradient(self, parameters, x, y, activation, noise, loss, gradient)
            else:
                for block, own, own_noise in _blocks(size, len(parameters), x, y, noise):
                    results = loss[block], gradient[block]
                    _loss_gradient(self, parameters[block], *own, activation.of_networks(block), own_noise, *results)
        return loss, gradient

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
        """Pull cotangents of (gradient, loss) back to the parameters and to the bank.

        With g = ∂L/∂θ this returns  H v + w g  and  ∂/∂(bank) [⟨v, g⟩ + w L].  As H is symmetric, ⟨v, g⟩ is the
        derivative of L along v, so everything follows from one forward and one backward sweep and their tangents
        (Pearlmutter 1994).

        Args:
            parameters: (N, Θ).
            x: (N or 1, B, D).
            y: targets.
            activation: whose bank is learned; the fast path needs a `TableBank`, others go through autograd.
            v: cotangent of the gradient, (N, Θ).
            w: cotangent of the loss, (N,).
            noise: as in the forward sweep.

        Returns:
            (N, Θ), and a tensor of the shape of the bank's parameters, summed over the networks.
        """
        bank = activation.bank
        if not isinstance(bank, TableBank):
            return gradient_vjp_autograd(self, parameters, x, y, activation, v, w, noise)
        if x.dim() > 3:
            x = x.flatten(2)
        parameters_cotangent, bank_cotangent = torch.empty_like(parameters), torch.zeros_like(bank.parameters)
        size = _block_size(self, x)
        with torch.inference_mode():
            if parameters.shape[0] <= size:
                results = parameters_cotangent, bank_cotangent
                _gradient_vjp(self, parameters, x, y, bank, activation.functions, v, w, noise, *results)
            else:
                for block, own, own_noise in _blocks(size, len(parameters), x, y, noise):
                    functions = activation.of_networks(block).functions
                    results = parameters_cotangent[block], bank_cotangent
                    _gradient_vjp(
                        self, parameters[block], *own, bank, functions, v[block], w[block], own_noise, *results
                    )
        return parameters_cotangent, bank_cotangent

    def layers(self, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of (N, Θ) as weights (N, in, out) and biases (N, 1, out)."""
        return dense.split(parameters, self.layer_sizes)


def _loss_gradient(
    spec: MlpSpec,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    activation: Activation,
    noise: Noise,
    loss: Tensor,
    gradient: Tensor,
) -> None:
    """`loss_gradient` of one block; loss and gradient are written."""
    layers = _views(spec, parameters)
    hidden, slopes = [x.expand(parameters.shape[0], -1, -1)], []
    for index, (weight, bias) in enumerate(layers[:-1]):
        h, slope = activation.value_slope(torch.baddbmm(bias, hidden[-1], weight), index)
        hidden.append(h + noise[index] if noise else h)
        slopes.append(slope)
    weight, bias = layers[-1]
    value, delta = spec.loss.value_slope(torch.baddbmm(bias, hidden[-1], weight), y)
    loss.copy_(value)
    gradients = _views(spec, gradient)
    for index in range(len(layers) - 1, -1, -1):
        _write_layer(gradients[index], hidden[index], delta)
        if index:
            delta = torch.bmm(delta, layers[index][0].mT).mul_(slopes[index - 1])


def _gradient_vjp(
    spec: MlpSpec,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    bank: TableBank,
    functions: tuple[Tensor, ...],
    v: Tensor,
    w: Tensor,
    noise: Noise,
    parameters_cotangent: Tensor,
    bank_cotangent: Tensor,
) -> None:
    """`gradient_vjp` of one block; the cotangent of its parameters is written, that of the bank added to.

    Dotted quantities are tangents along v.  In the backward sweep a tangent is that of the derivative of L plus w times
    the derivative: so H v + w g and the cotangent of the bank come without another pass.
    """
    layers, tangents = _views(spec, parameters), _views(spec, v)
    pre: list[Tensor] = []
    pre_dot: list[Tensor] = []
    hidden, hidden_dot = [x.expand(parameters.shape[0], -1, -1)], [x]  # a tangent of x is never asked for
    slopes: list[tuple[Tensor, Tensor]] = []
    for index, ((weight, bias), (weight_dot, bias_dot)) in enumerate(zip(layers, tangents, strict=True)):
        a = torch.baddbmm(bias, hidden[-1], weight)
        a_dot = torch.baddbmm(bias_dot, hidden[-1], weight_dot)
        if index:
            a_dot.baddbmm_(hidden_dot[-1], weight)
        pre.append(a)
        pre_dot.append(a_dot)
        if index < len(layers) - 1:
            h, slope, h_dot, slope_dot = bank.table.tangent(a, a_dot, functions[index])
            hidden.append(h + noise[index] if noise else h)
            hidden_dot.append(h_dot)
            slopes.append((slope, slope_dot))
    delta, delta_dot = spec.loss.slope_jvp(pre[-1], y, pre_dot[-1])
    delta_dot.addcmul_(delta, w.view(-1, 1, 1))
    cotangents = _views(spec, parameters_cotangent)
    for index in range(len(layers) - 1, -1, -1):
        _write_layer(cotangents[index], hidden[index], delta_dot)
        if not index:
            break
        cotangents[index][0].baddbmm_(hidden_dot[index].mT, delta)
        transposed = layers[index][0].mT
        bars = torch.bmm(delta, transposed), torch.bmm(delta_dot, transposed).baddbmm_(delta, tangents[index][0].mT)
        at = index - 1
        delta, delta_dot = bank.table.tangent_back(
            bank_cotangent, pre[at], pre_dot[at], functions[at], slopes[at], bars
        )


def _block_size(spec: MlpSpec, x: Tensor) -> int:
    """Networks of a block; outside the CPU all are one."""
    if not x.is_cpu:
        return sys.maxsize
    return max(1, BLOCK_BYTES // (x.shape[1] * max(spec.hidden, default=1) * x.element_size()))


def _blocks(
    size: int, networks: int, x: Tensor, y: Tensor, noise: Noise
) -> Iterator[tuple[slice, tuple[Tensor, Tensor], Noise]]:
    """Blocks of networks with their inputs, targets and noise, each of all networks or shared by them (N or 1, ...)."""
    for first in range(0, networks, size):
        block = slice(first, min(first + size, networks))
        own_x, own_y, *own_noise = (t if len(t) == 1 else t[block] for t in (x, y, *noise))
        yield block, (own_x, own_y), tuple(own_noise)


def _write_layer(layer: tuple[Tensor, Tensor], h: Tensor, delta: Tensor) -> None:
    """Set a layer's weights to hᵀ δ and its biases to Σ δ."""
    weight, bias = layer
    torch.bmm(h.mT, delta, out=weight)
    torch.sum(delta, dim=1, keepdim=True, out=bias)


def _views(spec: MlpSpec, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`MlpSpec.layers` by one operation a view instead of three, which autograd need not follow.

    With one small network the sweeps cost little more than calling them: this saves 4 % of an outer step.
    """
    row, column = parameters.stride()
    if column != 1:
        return spec.layers(parameters)
    views, start, networks = [], parameters.storage_offset(), parameters.shape[0]
    for i, o in spec.layer_sizes:
        weight = parameters.as_strided((networks, i, o), (row, o, 1), start)
        views.append((weight, parameters.as_strided((networks, 1, o), (row, o, 1), start + i * o)))
        start += i * o + o
    return views
