"""Spectral bias: how much later a network fits a high frequency than a low one.

A network of one input is fitted to y(x) = Σ_k sin(π k (x + 1) + φ_k) on x in [-1, 1): k periods over the interval, all
of amplitude one, with phases of their own for every seed.  The points are equally spaced, so what the network has of
each frequency is a Fourier coefficient, and the error of a frequency is |c_k(network) - c_k(target)| / |c_k(target)|
(Rahaman et al. 2019).  It counts how many inner steps there are until that error is first at most `TOLERANCE`.

Shapes: A arms, S seeds, N = A · S networks (arm after arm), F frequencies, B points, D inputs, T inner steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ldnn_core.activations import Activation, GroupedActivation
from ldnn_core.losses import SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import Optimizer
from ldnn_core.randomness import generator
from ldnn_core.training import Batches, InnerProblem, TrainState, train

TOLERANCE: Final = 0.1
"""A frequency is fitted when its coefficient is so close to that of the target, relatively."""

POINTS: Final = 128
"""B, points of the fit; every inner step sees them all."""


@dataclass(frozen=True)
class SpectralBias:
    """One network.

    Attributes:
        arm: its activation's name.
        seed: of its initial parameters and of the phases; arms of one seed share both.
        steps_to_fit: inner steps until each frequency was fitted first, 0 if it was from the start; None for never.
    """

    arm: str
    seed: int
    steps_to_fit: tuple[int | None, ...]


def measure_spectral_bias(
    arms: Mapping[str, Activation],
    seeds: Sequence[int],
    *,
    hidden: tuple[int, ...],
    frequencies: Sequence[int],
    optimizer: Optimizer,
    lr: float,
    steps: int,
    root_seed: int,
    points: int = POINTS,
    device: torch.device | str = "cpu",
) -> list[SpectralBias]:
    """Fit one network per arm and seed to a sum of sinusoids, all in one batch.

    Args:
        arms: name → activation for any number of networks; a bank's functions have shape (1, H).
        seeds: which networks and phases.
        hidden: units of each hidden layer.
        frequencies: periods of each sinusoid over the interval.
        optimizer: of the networks.
        lr: learning rate.
        steps: T.
        root_seed: the measurement's own seed.
        points: B.
        device: where the work is done; arms lie there.

    Returns:
        one record per network, arm after arm.

    Raises:
        ValueError: no arms or seeds; frequencies that are not different whole numbers that the points can tell apart.
    """
    if not arms or not seeds:
        raise ValueError(f"at least one arm and one seed are needed, but got {len(arms)} arms and {len(seeds)} seeds")
    _check_frequencies(frequencies, points)
    network = MlpSpec(1, hidden, 1, SquaredError())
    x = -1 + 2 * torch.arange(points, dtype=torch.float64) / points
    angles = torch.pi * (x[:, None] + 1) * torch.tensor(frequencies, dtype=torch.float64)
    targets = torch.cat([torch.sin(angles + _phases(root_seed, seed, len(frequencies))).sum(dim=1) for seed in seeds])
    fresh = network.initial_parameters([generator(root_seed, "spectral-bias-network", *hidden, s) for s in seeds])
    rows = torch.arange(len(seeds) * points).view(len(seeds), points).expand(steps, -1, -1)
    batches = Batches(
        x.repeat(len(seeds))[:, None].to(device, fresh.dtype),
        targets[:, None].to(device, fresh.dtype),
        rows.to(device),
        torch.arange(len(seeds), device=device),
    )
    found = steps_to_fit(
        InnerProblem(network, optimizer, lr),
        fresh.repeat(len(arms), 1).to(device),
        batches.repeated(len(arms)),
        GroupedActivation(tuple((arm, len(seeds)) for arm in arms.values())),
        frequencies,
    )
    names = [(arm, seed) for arm in arms for seed in seeds]
    return [
        SpectralBias(arm, seed, tuple(step if step >= 0 else None for step in own))
        for (arm, seed), own in zip(names, found.tolist(), strict=True)
    ]


def steps_to_fit(
    problem: InnerProblem, parameters: Tensor, batches: Batches, activation: Activation, frequencies: Sequence[int]
) -> Tensor:
    """Train, and say after which inner step each frequency was fitted first.

    Args:
        problem: a network with one output, its optimiser and learning rate.
        parameters: initial networks (N, Θ).
        batches: every step has the same rows for a network: the B points of the interval, in order.
        activation: of all hidden layers.
        frequencies: F of them.

    Returns:
        (N, F) int64 on the CPU, -1 for never.
    """
    x, y = batches.at(0)
    places = torch.tensor(frequencies, device=x.device)
    wanted = _coefficients(y, places)
    first = torch.full((len(parameters), len(frequencies)), -1, device=parameters.device)

    def look(state: TrainState) -> None:
        with torch.no_grad():
            z, _ = problem.network.forward(state.parameters, x, activation)
        error = (_coefficients(z, places) - wanted).abs() / wanted.abs()
        first[(first < 0) & (error <= TOLERANCE)] = state.step

    look(problem.start(parameters))
    train(problem, parameters, batches, activation, after_step=look)
    return first.cpu()


def _coefficients(values: Tensor, frequencies: Tensor) -> Tensor:
    """Fourier coefficients of these frequencies, (N, F) complex, of values (N, B, 1) at equal steps of an interval."""
    spectrum: Tensor = torch.fft.rfft(values.squeeze(2).double(), dim=1) / values.shape[1]
    return spectrum[:, frequencies]


def _phases(root_seed: int, seed: int, count: int) -> Tensor:
    source = generator(root_seed, "spectral-bias-phases", seed)
    return 2 * torch.pi * torch.rand(count, generator=source, dtype=torch.float64)


def _check_frequencies(frequencies: Sequence[int], points: int) -> None:
    if not frequencies or len(set(frequencies)) < len(frequencies) or min(frequencies) < 1:
        raise ValueError(f"frequencies must be different whole numbers from 1 on, but got {list(frequencies)}")
    if 2 * max(frequencies) >= points:
        raise ValueError(
            f"2 · frequency < points must hold, else frequencies cannot be told apart, but got "
            f"(frequency={max(frequencies)}, points={points}): take more points"
        )
