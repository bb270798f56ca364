"""The task ``van_der_pol``: forecasting the orbit of van der Pol's oscillator in phase space.

    x' = v,   v' = μ (1 - x²) v - x

A network sees a state (x, v) and gives the state one horizon later.

Shapes: S orbits, T horizons of each, p order of the Taylor series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ldnn_core.losses import SquaredError
from ldnn_core.tasks._base import DataError, Rows, TaskData
from ldnn_core.tasks._cache import Arrays, cached

ORDER: Final = 20
"""Of the Taylor series; that at which a step to full float64 precision costs least (Jorba and Zou 2005, eq. 3-8)."""
_STEP: Final = math.exp(-2)
"""Share of the radius of convergence that a step goes; ORDER such steps leave e^-40 of the series out."""
_SHORTEST: Final = 1e-9
START: Final = 3.0
"""Orbits start evenly distributed between plus and minus this in both variables."""


def orbits(mu: float, start: np.ndarray, horizon: float, count: int) -> np.ndarray:
    """The states (S, count + 1, 2) of orbits at multiples of a horizon, to about 1e-13 of their size.

    By Taylor series, whose coefficients follow from each other because the equation is polynomial; the step, the same
    for all orbits, is a share of the smallest radius of convergence, estimated from the last coefficients.

    Args:
        mu: μ, at least 0.
        start: first states, (S, 2).
        horizon: time between two states.
        count: T.

    Raises:
        DataError: the step became too small to go on, as far from the limit cycle with large μ.
    """
    state = start.T.astype(np.float64)
    states = [state]
    for _ in range(count):
        left = horizon
        while left > 0:
            series = _series(mu, state)
            step = _STEP * _radius(series)
            if not step > _SHORTEST:
                raise DataError(f"the orbits of mu = {mu} cannot be followed (step {step}): take a smaller mu")
            step = min(step, left)
            left -= step
            state = series[ORDER]
            for coefficient in series[ORDER - 1 :: -1]:
                state = state * step + coefficient
        states.append(state)
    return np.stack(states).transpose(2, 0, 1)


def _series(mu: float, state: np.ndarray) -> np.ndarray:
    """Taylor coefficients (p + 1, 2, S) of the solutions through states (2, S)."""
    series = np.empty((ORDER + 1, *state.shape))
    series[0] = state
    square = np.empty((ORDER + 1, state.shape[1]))  # of x
    x, v = series[:, 0], series[:, 1]
    for k in range(ORDER):
        square[k] = (x[: k + 1] * x[k::-1]).sum(axis=0)
        product = (square[: k + 1] * v[k::-1]).sum(axis=0)
        x[k + 1] = v[k] / (k + 1)
        v[k + 1] = (mu * (v[k] - product) - x[k]) / (k + 1)
    return series


def _radius(series: np.ndarray) -> float:
    """The radius of convergence as the last two coefficients tell it, in units of the size of the states."""
    scale = max(1.0, float(np.abs(series[0]).max()))
    sizes = np.abs(series[ORDER - 1 :]).max(axis=(1, 2)) / scale
    with np.errstate(divide="ignore"):
        radii = sizes ** (-1 / np.array([ORDER - 1, ORDER]))
    return float(radii.min())


@dataclass(frozen=True)
class VanDerPol:
    """The task ``van_der_pol``.

    Both variables are standardised by the inputs of the training rows, inputs and targets alike, so that an output can
    be the next input.  Rows are split by orbit: no two parts share one.

    Attributes:
        mu: μ, strength of the damping; 0 is the harmonic oscillator.
        horizon: time between an input and its target, and between two inputs of an orbit; a period takes about
            (3 - 2 ln 2) μ for large μ, 2 π for small and 8.1 for 2.7.
        trajectories: orbits; one fifth of them are test orbits.
        steps: horizons of each orbit, and rows that it gives.
        noise: standard deviation of the Gaussian noise on the states of training and validation rows, inputs and
            targets, in units of the spread of each variable; test rows and rolled-out orbits have none.
        data_seed: of starts and noise.
        validation_fraction: share of the other orbits that is kept back for choosing.
    """

    mu: float = 2.7
    horizon: float = 0.2
    trajectories: int = 100
    steps: int = 50
    noise: float = 0.0
    data_seed: int = 42
    validation_fraction: float = 0.2

    def load(self, cache: Path) -> TaskData:
        """The data; orbits are computed at the first call and cached as ``.npz`` with a checksum.

        Raises:
            DataError: the cached file is damaged, a part would have no orbit, or the orbits cannot be followed.
        """
        learning = self.trajectories - round(self.trajectories * 0.2)
        training = learning - round(learning * self.validation_fraction)
        if not 0 < training < learning < self.trajectories:
            raise DataError(
                "every part must have an orbit, but validation_fraction = "
                f"{self.validation_fraction} of {self.trajectories} trajectories leaves one with none"
            )
        names = (self.mu, self.horizon, self.trajectories, self.steps, self.data_seed)
        stem = f"van_der_pol-{'-'.join(map(str, names))}"
        states = torch.from_numpy(cached(cache, stem, ("states",), self._generate)["states"])
        inputs = states[:training, :-1].flatten(0, 1)
        states = (states - inputs.mean(dim=0)) / inputs.std(dim=0, correction=0)
        seen = states[:learning]
        seen = seen + self.noise * torch.from_numpy(self._source(1).standard_normal(tuple(seen.shape)))
        train, val, test = (_pairs(part) for part in (seen[:training], seen[training:], states[learning:]))
        unseen = states[learning:].float()
        return TaskData(
            "van_der_pol", train, val, test, outputs=2, loss=SquaredError(), chance=0.0, metric="loss", orbits=unseen
        )

    def _generate(self) -> Arrays:
        start = self._source(0).uniform(-START, START, (self.trajectories, 2))
        return {"states": orbits(self.mu, start, self.horizon, self.steps)}

    def _source(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.data_seed, purpose))


def _pairs(states: Tensor) -> Rows:
    """States (S, T + 1, 2) → S T rows, each state with the next one of its orbit."""
    return Rows(states[:, :-1].flatten(0, 1).float(), states[:, 1:].flatten(0, 1).float())
