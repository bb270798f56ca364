"""Any `torch.nn.Module` as a batch of networks: the general path beside the fast one of `ldnn_core.mlp`.

The module is written once, for one network, with the places of `ldnn_core.slots` wherever an activation, a batch
normalisation or dropout belongs.  `functional_call` gives every network of a batch its own parameters, and its places
what they are told; autograd does the rest.  A network is a function of its parameters, and of what it is told, alone:
modules with buffers, such as running averages, are refused.

Shapes: N networks, Θ parameters of one network, B batch, C channels, U units.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ldnn_core.activations import Activation, BankActivation, GroupedActivation, UsualActivation
from ldnn_core.losses import Loss
from ldnn_core.network import Layer, Noise, gradient_vjp_autograd, loss_gradient_autograd, widest_layer
from ldnn_core.slots import ActivationSlot, BatchNorm, Drop, Moments, Pass, Place, telling

SETTLE_ROWS: Final = 500
"""Rows whose moments are taken together when a network settles."""

DIFFERENTIATED_BYTES: Final = 256 << 20
"""Gradients are differentiated in blocks of networks whose widest hidden layer takes about this much memory."""

P = TypeVar("P", bound=Place)

Initial = Literal["uniform", "he_uniform"]
"""How weights start: ±1/√fan_in, PyTorch's default, biases too; or ±√(6/fan_in) (He et al. 2015), biases zero."""


class ModuleNetwork:
    """A batch of networks that share the structure of a module; a `Network`.

    They go through each operation together unless the module convolves on a CPU, where they go one after the other.

    Args:
        module: one network; slots are numbered in the order of ``module.modules()``.
        loss: what it is trained on.
        inputs: shape of one input; needed only if units are dropped.
        initial: how weights start.

    Raises:
        ValueError: the module has no slots, has buffers, or drops units otherwise than by `Drop`.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        *,
        inputs: Sequence[int] = (),
        initial: Initial = "uniform",
    ) -> None:
        self._places = [part for part in module.modules() if isinstance(part, Place)]
        self._slots = _numbered(self._places, ActivationSlot)
        self._norms = _numbered(self._places, BatchNorm)
        self._drops = _numbered(self._places, Drop)
        if not self._slots:
            raise ValueError("a module needs at least one ActivationSlot, but got none")
        buffers = [name for name, _ in module.named_buffers()]
        if buffers:
            raise ValueError(f"a network must be a function of its parameters alone, but has buffers {buffers}")
        if any(isinstance(part, nn.Dropout) and part.p > 0 for part in module.modules()):
            raise ValueError("units are dropped by ldnn_core.slots.Drop, but the module has nn.Dropout: replace it")
        self._module = module
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self._initial_scheme = initial
        convolves = any(isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d) for part in module.modules())
        # Under `vmap`, or one after the other: None for together but on a CPU, which one network's convolutions fill.
        self._together: bool | None = None if convolves else True
        self._moments: tuple[Moments, ...] = ()
        self.loss = loss
        if self._drops:
            self._measure(inputs)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Nothing: noise on hidden units is for fully connected networks."""
        return ()

    @property
    def dropped(self) -> tuple[int, ...]:
        """U of every place that drops units."""
        return tuple(drop.units for drop in self._drops)

    @property
    def channels(self) -> tuple[int, ...]:
        """C of every slot."""
        return tuple(slot.channels for slot in self._slots)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Which block each slot belongs to; without blocks each is its own."""
        return tuple(slot.index if slot.block is None else slot.block for slot in self._slots)

    @property
    def num_params(self) -> int:
        """Θ."""
        return sum(shape.numel() for shape in self._shapes.values())

    def initial_parameters(self, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
        """One random network per generator, (len(generators), Θ), on the CPU.

        Weights of two or more axes, and their biases, start as `Initial` says; scales of normalisations are one and
        their shifts zero.
        """
        return torch.stack([self._initial(generator) for generator in generators]).to(dtype)

    def forward(
        self, parameters: Tensor, x: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, list[Layer]]:
        """Outputs (N, B, ...) and what enters and leaves each slot, flattened to (N, B, U); x (N or 1, B, ...).

        Noise is, for each place that drops units, numbers in (-1, 1), (N or 1, B, U).
        """
        return self._pass(parameters, x, activation, noise)[:2]

    def settled(self, parameters: Tensor, activation: Activation, x: Tensor) -> ModuleNetwork:
        """The networks as they are judged: normalised by the moments of these rows instead of those of a batch.

        The moments of each normalisation are those of all rows, from passes over `SETTLE_ROWS` of them at a time with
        the given weights (Wu & Johnson 2021, "Rethinking 'batch' in batchnorm", section 3: precise batch norm).

        Args:
            parameters: (N, Θ); the result is for these networks only.
            activation: theirs.
            x: rows, (R, ...).
        """
        if not self._norms:
            return self
        seen: list[tuple[Moments, ...]] = []
        counts = []
        with torch.no_grad():
            for some in x.split(SETTLE_ROWS):
                if seen and len(some) < SETTLE_ROWS // 2:
                    break  # the variance of a few rows would say little
                seen.append(self._pass(parameters, some.unsqueeze(0), activation, (), measured=True)[2])
                counts.append(len(some))
        share = torch.tensor(counts, dtype=torch.float64, device=x.device) / sum(counts)
        result = copy.copy(self)
        result._moments = tuple(_pooled(of_one, share, parameters.dtype) for of_one in zip(*seen, strict=True))
        return result

    def loss_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, noise: Noise = ()
    ) -> tuple[Tensor, Tensor]:
        """Loss (N,) and its gradient (N, Θ), without a graph."""
        return loss_gradient_autograd(self, parameters, x, y, activation, noise)

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
        """See `Network.gradient_vjp`; so many networks at a time that a hidden layer of theirs takes some memory."""
        row = widest_layer(self, tuple(x.shape[2:])) * x.element_size()
        size = max(1, DIFFERENTIATED_BYTES // (x.shape[1] * row))
        through, of_bank = torch.empty_like(parameters), torch.zeros_like(activation.bank.parameters)
        for first in range(0, len(parameters), size):
            block = slice(first, min(first + size, len(parameters)))
            own_x, own_y, *own_noise = (t if len(t) == 1 else t[block] for t in (x, y, *noise))
            own = parameters[block], own_x, own_y, activation.of_networks(block), v[block], w[block]
            through[block], bank_cotangent = gradient_vjp_autograd(self._of_networks(block), *own, tuple(own_noise))
            of_bank += bank_cotangent
        return through, of_bank

    def _pass(
        self, parameters: Tensor, x: Tensor, activation: Activation, noise: Noise, *, measured: bool = False
    ) -> tuple[Tensor, list[Layer], tuple[Moments, ...]]:
        """Outputs, layers, and, if they are to be measured, the moments of the batch at each normalisation."""
        if isinstance(activation, GroupedActivation):
            return self._grouped(parameters, x, activation, noise, measured)
        functions: tuple[Tensor, ...] = ()
        if isinstance(activation, BankActivation):
            functions = tuple(f.expand(len(parameters), -1) for f in activation.functions)

        def one(
            flat: Tensor, some: Tensor, own: tuple[Tensor, ...], moments: Sequence[Moments], uniform: Noise
        ) -> tuple[Tensor, list[Layer], tuple[Moments, ...]]:
            what = Pass(_of_one(activation, own), moments, uniform, measured)
            with telling(self._places, what):
                z = functional_call(self._module, self._unflatten(flat), (some,))
            return z, what.layers, tuple(what.seen)

        if self._together or (self._together is None and parameters.device.type != "cpu"):
            dims = (0, None if len(x) == 1 else 0, 0, 0, tuple(None if len(u) == 1 else 0 for u in noise))
            own_noise = tuple(u[0] if len(u) == 1 else u for u in noise)
            inputs = x[0] if len(x) == 1 else x
            return vmap(one, in_dims=dims)(parameters, inputs, functions, self._moments, own_noise)
        results = [
            one(
                flat,
                x[n if len(x) > 1 else 0],
                tuple(f[n] for f in functions),
                [(mean[n], variance[n]) for mean, variance in self._moments],
                tuple(u[n if len(u) > 1 else 0] for u in noise),
            )
            for n, flat in enumerate(parameters)
        ]
        layers = [Layer(*map(torch.stack, zip(*of, strict=True))) for of in zip(*(r[1] for r in results), strict=True)]
        seen = [tuple(map(torch.stack, zip(*of, strict=True))) for of in zip(*(r[2] for r in results), strict=True)]
        return torch.stack([r[0] for r in results]), layers, tuple((mean, variance) for mean, variance in seen)

    def _grouped(
        self, parameters: Tensor, x: Tensor, activation: GroupedActivation, noise: Noise, measured: bool
    ) -> tuple[Tensor, list[Layer], tuple[Moments, ...]]:
        results, start = [], 0
        for own, count in activation.groups:
            block = slice(start, start + count)
            some = self._of_networks(block)
            uniform = tuple(u if len(u) == 1 else u[block] for u in noise)
            inputs = x if len(x) == 1 else x[block]
            results.append(some._pass(parameters[block], inputs, own, uniform, measured=measured))
            start += count
        layers = zip(*(r[1] for r in results), strict=True)
        joined = [Layer(*(torch.cat(part) for part in zip(*layer, strict=True))) for layer in layers]
        moments = zip(*(r[2] for r in results), strict=True)
        seen = tuple((torch.cat([m[0] for m in of]), torch.cat([m[1] for m in of])) for of in moments)
        return torch.cat([r[0] for r in results]), joined, seen

    def _of_networks(self, block: slice) -> ModuleNetwork:
        if not self._moments:
            return self
        some = copy.copy(self)
        some._moments = tuple((mean[block], variance[block]) for mean, variance in self._moments)
        return some

    def _measure(self, inputs: Sequence[int]) -> None:
        """Find how many units each `Drop` has, by a pass without numbers."""
        if not inputs:
            raise ValueError("a module that drops units needs the shape of an input, but got inputs=()")
        with torch.no_grad():
            flat = torch.zeros(self.num_params, device="meta")
            x = torch.zeros(2, *inputs, device="meta")
            with telling(self._places, Pass(UsualActivation("identity"))):
                functional_call(self._module, self._unflatten(flat), (x,))

    def _unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _initial(self, generator: torch.Generator) -> Tensor:
        parts = []
        he = self._initial_scheme == "he_uniform"
        for name, shape in self._shapes.items():
            weight = self._shapes.get(f"{name.rpartition('.')[0]}.weight", shape)
            if len(weight) < 2:
                parts.append(torch.full(shape, float(name.endswith("weight")), dtype=torch.float64).flatten())
                continue
            if he and len(shape) < 2:
                parts.append(torch.zeros(shape, dtype=torch.float64))
                continue
            uniform = torch.rand(shape.numel(), generator=generator, dtype=torch.float64)
            bound = ((6.0 if he else 1.0) / weight[1:].numel()) ** 0.5
            parts.append((2 * uniform - 1) * bound)
        return torch.cat(parts)


def _numbered(places: Sequence[Place], kind: type[P]) -> list[P]:
    own = [place for place in places if isinstance(place, kind)]
    for index, place in enumerate(own):
        place.index = index
    return own


def _of_one(activation: Activation, functions: tuple[Tensor, ...]) -> Activation:
    """The activation of one network of the batch: its own functions."""
    if not isinstance(activation, BankActivation):
        return activation
    return BankActivation(activation.bank, tuple(f.unsqueeze(0) for f in functions))


def _pooled(moments: Sequence[Moments], share: Tensor, dtype: torch.dtype) -> Moments:
    """Mean and variance of all rows from those of parts of them: the law of total variance; (N, C) each."""
    means = torch.stack([mean for mean, _ in moments]).double()
    variances = torch.stack([variance for _, variance in moments]).double()
    weights = share.view(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(dim=0)
    variance = (weights * (variances + (means - mean) ** 2)).sum(dim=0)
    return mean.to(dtype), variance.to(dtype)
