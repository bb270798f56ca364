"""Outer gradients from differences of losses: perturbed sets train the same classifiers, all in one batch.

Nothing is differentiated, so it costs forward training alone, needs no memory for records, and works where the loss
has no useful gradient; the price is the variance of a random direction per pair.

Antithetic pairs.  Particle 0 has the set θ itself; particles i and p + i have θ + σ b ε_i and θ - σ b ε_i, with
ε_i ~ N(0, I) and b the initial bound of each weight, so that one σ is as large a step in every layer.  With
e_i = ε_i in the first outer step of an inner loop and the sum of all ε_i of the inner loop so far later on,

    g = 1/p Σ_i (f(θ + σ b ε_i) - f(θ - σ b ε_i)) / (2σ) · e_i / b

is an unbiased estimate of the gradient of E f(θ + σ b ε) with respect to θ; the division by b makes it one with
respect to the genomes.  All particles see the same classifiers, batches and noise (common random numbers).

f is the outer loss, which need not have a derivative: an error on validation rows serves too.

Particle 0 costs one part in 2p + 1 and makes the outer loss that of the set itself, as it is for other estimators.

Shapes: N classifiers, p pairs, Q = 2p + 1 particles, M sets, K types, P weights, L inner steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import Carry, OuterGradient, begin, loss_weights
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import initial_bounds
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Perturbation:
    """How sets are perturbed.

    Attributes:
        scale: σ, in units of each weight's initial bound.
        pairs: p.

    Raises:
        ValueError: no step, or no pair.
    """

    scale: float
    pairs: int

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.pairs >= 1):
            raise ValueError(
                "perturbation > 0 and pairs >= 1 must hold for es and pes, "
                f"but got (perturbation={self.scale}, pairs={self.pairs})"
            )

    def draw(self, genomes: Tensor, seed: int) -> Tensor:
        """ε, (p, M, K, P) in float64; the same for the same seed."""
        return torch.randn(self.pairs, *genomes.shape, generator=generator(seed, "perturbation"), dtype=torch.float64)

    def particles(self, activation: BankActivation, epsilon: Tensor) -> BankActivation:
        """The functions of Q groups of N networks: the set, all upward perturbations, all downward ones.

        Args:
            activation: of N networks.
            epsilon: ε, where the genomes are.
        """
        bank = activation.bank
        step = self.scale * initial_bounds(bank.spec, epsilon.dtype).to(epsilon) * epsilon
        moved = torch.cat([torch.zeros_like(step[:1]), step, -step]) + bank.genomes.to(step)
        perturbed = bank.of_genomes(moved.to(bank.genomes.dtype).flatten(0, 1))
        per_set = bank.genomes.shape[0] * bank.genomes.shape[1]
        return BankActivation(perturbed, tuple(_tiled(f, len(moved), per_set) for f in activation.functions))


def _tiled(functions: Tensor, particles: int, per_particle: int) -> Tensor:
    """The functions of a layer, (N, H), for each particle in turn, whose functions come one after the other."""
    first = per_particle * torch.arange(particles, dtype=functions.dtype, device=functions.device)
    return (first.view(-1, 1, 1) + functions).flatten(0, 1)


def _for_networks(activation: BankActivation, networks: int) -> BankActivation:
    """The same with a row of functions for each of N networks."""
    return BankActivation(activation.bank, tuple(f.expand(networks, -1) for f in activation.functions))


class Differences(ABC):
    """An estimator by differences of losses; abstract."""

    name: ClassVar[str]

    def estimate(
        self,
        problem: InnerProblem,
        parameters: Tensor,
        batches: Batches,
        activation: BankActivation,
        window: int,
        *,
        seed: int | None = None,
        carry: Carry | None = None,
    ) -> OuterGradient:
        """The estimate g above.  See `Estimator.estimate`; needs a seed, another one for every outer step."""
        if seed is None:
            raise ValueError(
                f"the estimator {self.name} draws perturbations: give a seed, another one for each outer step"
            )
        perturbation, length = self._pieces()
        networks, pairs, bank = len(parameters), perturbation.pairs, activation.bank
        particles = 2 * pairs + 1
        problem, everyone = problem.repeated(particles), parameters.repeat(particles, 1)
        start = begin(problem, everyone, carry, (pairs, *bank.genomes.shape))
        epsilon = perturbation.draw(bank.genomes, seed).to(bank.genomes.device)
        total = epsilon if carry is None or carry.perturbation is None else carry.perturbation + epsilon

        functions = _for_networks(activation, networks)
        perturbed = perturbation.particles(functions, epsilon)
        left = len(batches) - start.step
        steps = left if length is None else min(length, left)
        state, losses = start, []
        with torch.no_grad():
            for after, loss in islice(problem.steps(start, batches.repeated(particles), perturbed), steps):
                state = after
                losses.append(loss)
            history = torch.stack(losses).view(steps, particles, networks)
            # in float64: a difference of two losses that are nearly equal
            if problem.validation is None:
                weights = torch.tensor(
                    loss_weights(steps, networks, window), dtype=torch.float64, device=history.device
                )
                of_particle = torch.einsum("t,tqn->q", weights, history.double())
            else:
                judged = problem.validation_loss(state.parameters, perturbed)
                of_particle = judged.double().view(particles, networks).mean(dim=1)
            up, down = of_particle[1 : 1 + pairs], of_particle[1 + pairs :]
            slope = (up - down) / (2 * perturbation.scale * pairs)
            gradient = torch.einsum("p,p...->...", slope, total) / initial_bounds(bank.spec, total.dtype).to(total)
        # a perturbed classifier that diverges must be seen, though that of the set itself may be well
        outer_loss = float(of_particle[0]) if bool(torch.isfinite(of_particle).all()) else float(of_particle.sum())
        return OuterGradient(
            gradient=gradient.to(bank.genomes.dtype),
            outer_loss=outer_loss,
            losses=history[:, 0],
            final_parameters=state.parameters[:networks],
            inner_steps=steps * particles * networks,
            carry=None if steps == left else Carry(state, total),
        )

    @abstractmethod
    def _pieces(self) -> tuple[Perturbation, int | None]:
        """How sets are perturbed, and the most inner steps of an outer step; None does all that are left."""
        ...


@dataclass(frozen=True)
class Es(Differences):
    """Estimator ``es``: antithetic evolution strategies (Salimans et al. 2017), without rank shaping.

    Its mean is the gradient of the outer loss averaged over Gaussian perturbations of the set, which differs from
    that of the outer loss itself by O(σ²), however long the loop.  Leaves no carry.

    Attributes:
        perturbation: σ, standard deviation of the perturbations in units of each weight's initial bound.
        pairs: antithetic pairs; 2 pairs + 1 classifiers are trained for each fresh one.

    Raises:
        ValueError: a σ that is not positive, or no pair.
    """

    name: ClassVar[str] = "es"
    perturbation: float = 0.1
    pairs: int = 8

    def __post_init__(self) -> None:
        self._pieces()

    def _pieces(self) -> tuple[Perturbation, int | None]:
        return Perturbation(self.perturbation, self.pairs), None


@dataclass(frozen=True)
class Pes(Differences):
    """Estimator ``pes``: persistent evolution strategies (Vicol, Metz & Sohl-Dickstein 2021), antithetic.

    An outer step is a piece of the inner loop.  Every particle goes on from where its own training stands and draws
    a new perturbation; the losses of the piece are credited to the sum of all perturbations that the particle has
    had in this inner loop, not to the last one alone.  So, at a fixed set, the mean over the pieces of an inner loop
    is an unbiased estimate of the (smoothed) gradient of the mean of their outer losses, influences from one piece
    on later ones included; the variance grows with the number of pieces.  With one piece it is `Es`, bit for bit.

    Attributes:
        length: inner steps of a piece.
        perturbation: σ, standard deviation of a piece's perturbations in units of each weight's initial bound.
        pairs: antithetic pairs; 2 pairs + 1 classifiers are trained for each fresh one.

    Raises:
        ValueError: an empty piece, a σ that is not positive, or no pair.
    """

    name: ClassVar[str] = "pes"
    length: int = 20
    perturbation: float = 0.1
    pairs: int = 8

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length >= 1 must hold for the estimator pes, but got length={self.length}")
        self._pieces()

    def _pieces(self) -> tuple[Perturbation, int | None]:
        return Perturbation(self.perturbation, self.pairs), self.length
