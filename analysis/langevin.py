"""A toy for stochastic gradient descent as a noisy descent, `dθ = -∇L dt + sqrt(2 D) dW`: where noise takes a network.

The landscape is in the plane and has a sharp and a flat minimum of equal depth:
`L(θ) = -log Σ_k exp(-|θ - c_k|² / (2 s_k²))` with c = (-1, 0) and (1, 0); around a minimum the Hessian is 1 / s_k².
Noise is either the same everywhere, D constant, or aligned with the Hessian as that of mini-batches is said to be,
`D = η L H / B` (the supplement): here `D(θ) = T · Σ_k p_k(θ) / s_k²` with p_k the share of minimum k in the sum and one
temperature T for η L / B.  With constant D the stationary density is exp(-L / D); at D = 1 that is a mixture of two
normal densities, of weights s_k².
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd

from analysis.statistics import Vector

CENTRES: Final = ((-1.0, 0.0), (1.0, 0.0))
"""The sharp and the flat minimum."""
SPREADS: Final = (0.25, 0.6)
"""s of each: the Hessian there is 16 and 2.8 times the unit matrix."""
TEMPERATURE: Final = 0.08
"""T, so that aligned noise has D = 1.28 in the sharp minimum and 0.22 in the flat one."""

Noise = Literal["aligned with the Hessian", "the same everywhere"]

_SEED: Final = 20260101
_STEP: Final = 0.004


def loss(x: Vector, y: Vector) -> Vector:
    """L at points of the plane."""
    return -np.logaddexp(*_logs(x, y))


def gradient(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """∇L, its two components."""
    shares = _shares(x, y)
    parts = list(zip(shares, CENTRES, SPREADS, strict=True))
    across = sum(share * (x - centre[0]) / s**2 for share, centre, s in parts)
    up = sum(share * (y - centre[1]) / s**2 for share, centre, s in parts)
    return np.asarray(across), np.asarray(up)


def curvature(x: Vector, y: Vector) -> Vector:
    """Σ_k p_k / s_k²: the Hessian of the minimum that a point belongs to, and between the two a mean of both."""
    return np.asarray(sum(share / s**2 for share, s in zip(_shares(x, y), SPREADS, strict=True)))


def noisy_descents(
    noise: Noise, *, paths: int = 300, steps: int = 3000, every: int = 5, diffusion: float | None = None
) -> pd.DataFrame:
    """Paths that start in the sharp minimum, by the Euler-Maruyama scheme with a fixed generator.

    Args:
        noise: whether D follows the Hessian.
        paths: how many.
        steps: of length 0.004 in time.
        every: one in so many steps is kept.
        diffusion: D of noise that is the same everywhere; if not given, the mean of aligned noise's in both minima.

    Returns:
        one row per path and kept step: ``noise``, ``path``, ``time``, ``x``, ``y``.
    """
    rng = np.random.default_rng(_SEED)
    even = TEMPERATURE * float(np.mean([1 / s**2 for s in SPREADS])) if diffusion is None else diffusion
    x, y = np.full(paths, CENTRES[0][0]), np.full(paths, CENTRES[0][1])
    kept = [(0, x, y)]
    for step in range(1, steps + 1):
        strength = TEMPERATURE * curvature(x, y) if noise == "aligned with the Hessian" else np.full(paths, even)
        kicks = np.sqrt(2 * strength * _STEP) * rng.standard_normal((2, paths))
        across, up = gradient(x, y)
        x, y = x - _STEP * across + kicks[0], y - _STEP * up + kicks[1]
        if step % every == 0:
            kept.append((step, x, y))
    parts = [
        pd.DataFrame({"noise": noise, "path": np.arange(paths), "time": _STEP * step, "x": across, "y": up})
        for step, across, up in kept
    ]
    return pd.concat(parts, ignore_index=True)


def in_flat_minimum(x: Vector, y: Vector) -> Vector:
    """Whether a point belongs rather to the flat minimum than to the sharp one."""
    sharp, flat = _logs(x, y)
    return np.asarray(flat > sharp)


def _logs(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    first, second = (
        -(np.square(x - centre[0]) + np.square(y - centre[1])) / (2 * s**2)
        for centre, s in zip(CENTRES, SPREADS, strict=True)
    )
    return first, second


def _shares(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    sharp, flat = _logs(x, y)
    both = np.logaddexp(sharp, flat)
    return np.exp(sharp - both), np.exp(flat - both)
