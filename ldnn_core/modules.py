"""Any `torch.nn.Module` as a batch of networks: the general path beside the fast one of `ldnn_core.mlp`.

The module is written once, for one network, with an `ActivationSlot` wherever an activation belongs.  `functional_call`
under `vmap` gives every network of a batch its own parameters, and its slots their own functions; autograd does the
rest.  A network is a function of its parameters alone: modules with buffers, such as running statistics, are refused.

Shapes: N networks, Θ parameters of one network, B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ldnn_core.activations import Activation, BankActivation, GroupedActivation
from ldnn_core.losses import Loss
from ldnn_core.network import Layer, Noise, gradient_vjp_autograd, loss_gradient_autograd


class ActivationSlot(nn.Module):
    """The place of an activation in a module; its channel axis is the second, as in PyTorch's own layers.

    Args:
        channels: C, units that may have different types.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self._use: tuple[Activation, int, list[Layer]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation of the batch that is being computed: (B, C, ...) → (B, C, ...).

        Raises:
            RuntimeError: the module is called by itself, not through `ModuleNetwork`.
        """
        if self._use is None:
            raise RuntimeError("an ActivationSlot gets its function from ModuleNetwork: call forward of that")
        activation, layer, outputs = self._use
        last = x.movedim(1, -1)
        h = activation.value(last.reshape(1, -1, self.channels), layer).reshape(last.shape).movedim(-1, 1)
        outputs.append(Layer(x.flatten(1), h.flatten(1)))
        return h


class ModuleNetwork:
    """A batch of networks that share the structure of a module; a `Network`.

    Args:
        module: one network; slots are numbered in the order of ``module.modules()``.
        loss: what it is trained on.

    Raises:
        ValueError: the module has no slots, has buffers, or drops units at random.
    """

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self._slots = [part for part in module.modules() if isinstance(part, ActivationSlot)]
        if not self._slots:
            raise ValueError("a module needs at least one ActivationSlot, but got none")
        buffers = [name for name, _ in module.named_buffers()]
        if buffers:
            raise ValueError(f"a network must be a function of its parameters alone, but has buffers {buffers}")
        if any(isinstance(part, nn.Dropout) and part.p > 0 for part in module.modules()):
            raise ValueError("a network must be a function of its parameters alone, but drops units at random")
        self._module = module
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self.loss = loss

    @property
    def hidden(self) -> tuple[int, ...]:
        """Nothing: noise on hidden units is for fully connected networks."""
        return ()

    @property
    def channels(self) -> tuple[int, ...]:
        """C of every slot, e.g. for `mixed_functions`."""
        return tuple(slot.channels for slot in self._slots)

    @property
    def num_params(self) -> int:
        """Θ."""
        return sum(shape.numel() for shape in self._shapes.values())

    def initial_parameters(self, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
        """One random network per generator, (len(generators), Θ), on the CPU.

        Weights of two or more axes, and their biases, are uniform in ±1/√fan_in, PyTorch's default; scales of
        normalisations are one and their shifts zero.
        """
        return torch.stack([self._initial(generator) for generator in generators]).to(dtype)

    def forward(
        self, parameters: Tensor, x: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, list[Layer]]:
        """Outputs (N, B, ...) and what enters and leaves each slot, flattened to (N, B, units); x (N or 1, B, ...)."""
        if isinstance(activation, GroupedActivation):
            counts = [count for _, count in activation.groups]
            inputs = x.expand(len(parameters), *x.shape[1:]).split(counts)
            parts = zip(activation.groups, parameters.split(counts), inputs, strict=True)
            results = [self.forward(own, some, act) for (act, _), own, some in parts]
            layers = zip(*(hidden for _, hidden in results), strict=True)
            joined = [Layer(*(torch.cat(part) for part in zip(*layer, strict=True))) for layer in layers]
            return torch.cat([z for z, _ in results]), joined
        functions: tuple[Tensor, ...] = ()
        if isinstance(activation, BankActivation):
            functions = tuple(f.expand(len(parameters), -1) for f in activation.functions)

        def one(flat: Tensor, some: Tensor, own: tuple[Tensor, ...]) -> tuple[Tensor, list[Layer]]:
            outputs: list[Layer] = []
            with self._using(_of_one(activation, own), outputs):
                z = functional_call(self._module, self._unflatten(flat), (some,))
            return z, outputs

        shared = len(x) != len(parameters)
        return vmap(one, in_dims=(0, None if shared else 0, 0))(parameters, x[0] if shared else x, functions)

    def loss_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, Tensor]:
        """Loss (N,) and its gradient (N, Θ), without a graph."""
        return loss_gradient_autograd(self, parameters, x, y, activation)

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
        """See `Network.gradient_vjp`."""
        return gradient_vjp_autograd(self, parameters, x, y, activation, v, w)

    def _unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _initial(self, generator: torch.Generator) -> Tensor:
        parts = []
        for name, shape in self._shapes.items():
            weight = self._shapes.get(f"{name.rpartition('.')[0]}.weight", shape)
            if len(weight) < 2:
                parts.append(torch.full(shape, float(name.endswith("weight")), dtype=torch.float64).flatten())
                continue
            uniform = torch.rand(shape.numel(), generator=generator, dtype=torch.float64)
            parts.append((2 * uniform - 1) * weight[1:].numel() ** -0.5)
        return torch.cat(parts)

    @contextmanager
    def _using(self, activation: Activation, outputs: list[Layer]) -> Iterator[None]:
        for layer, slot in enumerate(self._slots):
            slot._use = (activation, layer, outputs)
        try:
            yield
        finally:
            for slot in self._slots:
                slot._use = None


def _of_one(activation: Activation, functions: tuple[Tensor, ...]) -> Activation:
    """The activation of one network of the batch: its own functions."""
    if not isinstance(activation, BankActivation):
        return activation
    return BankActivation(activation.bank, tuple(f.unsqueeze(0) for f in functions))
