"""Places in a module that are told what to do by the batch of networks they belong to.

A `torch.nn.Module` is written once, for one network.  What differs from network to network, or from pass to pass, is
not in the module: which functions its units apply, by which moments it normalises, which units are dropped.  During a
pass each place below finds that in a `Pass`; outside a pass it refuses to be called.

Shapes: B batch, C channels, U units of a place (channels times positions).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ldnn_core.activations import Activation, BankActivation
from ldnn_core.network import Layer

EPSILON = 1e-5
"""Added to variances before their root is taken, as PyTorch does."""

Moments = tuple[Tensor, Tensor]
"""Mean and variance of each channel."""


@dataclass
class Pass:
    """What one network is told for one pass over a batch, and what its places say of it.

    Attributes:
        activation: of all slots, for a single network.
        moments: of each normalisation; empty for those of the batch itself.
        uniform: for each place that drops units, numbers in (-1, 1), (B, U); empty when nothing is dropped.
        measured: whether normalisations are to note the moments of the batch.
        layers: what entered and left each slot, (B, U).
        seen: mean and biased variance of the batch at each normalisation.
    """

    activation: Activation
    moments: Sequence[Moments] = ()
    uniform: Sequence[Tensor] = ()
    measured: bool = False
    layers: list[Layer] = field(default_factory=list)
    seen: list[Moments] = field(default_factory=list)


class Place(nn.Module):
    """Abstract: one of the places of a module, numbered among those of its own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.index = 0
        self._pass: Pass | None = None

    @property
    def current(self) -> Pass:
        """What is being computed.

        Raises:
            RuntimeError: nothing is: the module was called by itself.
        """
        if self._pass is None:
            raise RuntimeError(f"{type(self).__name__} gets its part from ModuleNetwork: call forward of that")
        return self._pass


class ActivationSlot(Place):
    """The place of an activation; its channel axis is the second, as in PyTorch's own layers.

    Args:
        channels: C, units that may have different types.
        block: which block of the network it belongs to, for mixing by blocks; None for one of its own.
    """

    def __init__(self, channels: int, block: int | None = None) -> None:
        super().__init__()
        self.channels, self.block = channels, block

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation of the network that is being computed: (B, C, ...) → (B, C, ...)."""
        told = self.current
        flat = x.flatten(1)
        positions = flat.shape[1] // self.channels
        pre = flat.unsqueeze(0)
        activation = told.activation
        if positions > 1 and isinstance(activation, BankActivation):
            # All positions of a channel share its function, so that no axis has to be moved.
            function = activation.functions[self.index].repeat_interleave(positions, dim=1)
            units = activation.bank.value(pre, function)[0]
        else:
            units = activation.value(pre, self.index)[0]
        told.layers.append(Layer(flat, units))
        return units.view_as(x)


class BatchNorm(Place):
    """Batch normalisation (Ioffe & Szegedy 2015) without running averages.

    While a network trains it uses the moments of the batch; when it is judged, those that `ModuleNetwork.settled` has
    found with its final weights.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel: (B, C, ...) → (B, C, ...)."""
        told = self.current
        if told.moments:
            mean, variance = told.moments[self.index]
            return torch.nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, EPSILON)
        axes = [0, *range(2, x.ndim)]
        if told.measured:
            told.seen.append((x.mean(dim=axes), x.var(dim=axes, correction=0)))
        return torch.nn.functional.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, EPSILON)


class Drop(Place):
    """Dropout (Srivastava et al. 2014) by numbers that it is given; does nothing when there are none.

    Args:
        share: of the units that become zero, on average; the others are divided by what is left.

    Raises:
        ValueError: the share is not within [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"0 <= share < 1 must hold, but got share={share}")
        self.share = share
        self.units = 0
        """U, known after the first pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop units: (B, ...) → (B, ...)."""
        told = self.current
        self.units = x[0].numel()
        if not told.uniform:
            return x
        kept = told.uniform[self.index] > 2 * self.share - 1
        return x * kept.view_as(x) / (1 - self.share)


@contextmanager
def telling(places: Sequence[Place], what: Pass) -> Iterator[None]:
    """For the time of a pass, tell all places of a module about it."""
    for place in places:
        place._pass = what
    try:
        yield
    finally:
        for place in places:
            place._pass = None
