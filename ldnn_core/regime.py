"""How networks are trained beside optimiser and learning rate: schedule, weight decay, repulsion from checkpoints.

Repulsion (von Bachmann 2020): with θ_c the parameters at stored checkpoints c, training minimises

    L(θ) + s Σ_c exp(-d_c² / (2 σ²)),    d_c² = ‖θ - θ_c‖² / Θ,

a Gaussian hill of height s at each checkpoint, which pushes away:  its gradient is

    -(s / (σ² Θ)) Σ_c exp(-d_c² / (2 σ²)) (θ - θ_c),

so that a step against it leads from θ_c outwards.  The distance is per parameter, so that a width σ means the same in
networks of all sizes.  The gradient is zero at θ_c itself: the loss or momentum moves a network from there.

Shapes: N networks, Θ parameters of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldnn_core.schedule import Schedule


@dataclass(frozen=True)
class Repulsion:
    """Hills at checkpoints.

    Attributes:
        strength: s, height of a hill in units of the loss.
        width: σ, root mean square distance per parameter at which a hill has fallen to exp(-1/2) of its height.
        at: inner steps after which a checkpoint is stored.

    Raises:
        ValueError: a negative strength, or a width that is not positive.
    """

    strength: float
    width: float
    at: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (self.strength >= 0 and self.width > 0):
            raise ValueError(
                f"strength >= 0 and width > 0 must hold, but got (strength={self.strength}, width={self.width})"
            )

    def gradient(self, parameters: Tensor, checkpoints: Sequence[Tensor]) -> Tensor:
        """The gradient of the hills where networks are, (N, Θ)."""
        total = torch.zeros_like(parameters)
        for checkpoint in checkpoints:
            away = parameters - checkpoint
            height = self.strength * torch.exp(-away.square().mean(dim=1, keepdim=True) / (2 * self.width**2))
            total -= height / (self.width**2 * away.shape[1]) * away
        return total


@dataclass(frozen=True)
class Regime:
    """What happens to the gradient and to the learning rate, and which parameters are kept on the way.

    Attributes:
        schedule: of the learning rate.
        weight_decay: λ, the gradient of λ ‖θ‖² / 2 is added to that of the loss.
        repulsion: from checkpoints of the same training; None for none.
        snapshots: inner steps after which parameters are kept for an ensemble.
    """

    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.0
    repulsion: Repulsion | None = None
    snapshots: tuple[int, ...] = ()

    def gradient(self, gradient: Tensor, parameters: Tensor, checkpoints: Sequence[Tensor]) -> Tensor:
        """The gradient of what is minimised, from that of the loss; (N, Θ)."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameters
        if self.repulsion is not None and checkpoints:
            gradient = gradient + self.repulsion.gradient(parameters, checkpoints)
        return gradient
