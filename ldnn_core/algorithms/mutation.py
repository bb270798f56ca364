"""Mutations of genomes, whose length is told in units of weights or as a change of the curve.

A Gaussian step in the weights means little for one genome and much for another: it depends on how steep and how
strong their hidden units are.  A function-space mutation draws the same direction and then chooses how far to go, so
that the curve of every type changes by a wanted root mean square,

    ‖σ(· ; g + t δ) - σ(· ; g)‖ = r,        ‖f‖² = ∫ f(a)² φ(a) da,

with φ the unit normal density, that of pre-activations which are scaled as they should be.

Shapes: C candidates, K types, P weights of a sub-network, F = C · K functions, X points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from ldnn_core.subnetwork import ActivationSpec, exact_values, normal_quadrature

LONGEST_STEP = 10.0
"""The largest t, with δ a unit normal step in units of initial bounds: ten times what the weights were drawn from."""
TOLERANCE = 1e-3
"""Relative error of the change of a curve at which the search for t ends."""
_MOST_EVALUATIONS = 60  # ten are usual; the limit holds where rounding hides the wanted change
_PROBE = 1e-3  # where the change is still proportional to t


Mutation = Callable[[ActivationSpec, Tensor, Tensor, Tensor, torch.Generator], Tensor]
"""What sets share, units of weights (P,), genomes (C, K, P), lengths (C,), source → mutated genomes (C, K, P)."""


def mutate_weights(
    spec: ActivationSpec, units: Tensor, genomes: Tensor, lengths: Tensor, source: torch.Generator
) -> Tensor:
    """``weights``: every weight moves by length · unit · N(0, 1)."""
    return genomes + lengths.view(-1, 1, 1) * (torch.randn(genomes.shape, generator=source) * units)


def mutate_functions(
    spec: ActivationSpec, units: Tensor, genomes: Tensor, lengths: Tensor, source: torch.Generator
) -> Tensor:
    """``function``: the direction of `mutate_weights`, as far as the curve of each type changes by the length.

    Where `LONGEST_STEP` is too short for the wanted change, the curve changes by less.
    """
    direction = (torch.randn(genomes.shape, generator=source) * units).double()
    start = genomes.double()
    wanted = lengths.double().repeat_interleave(genomes.shape[1])
    steps = steps_to_change(spec, start.flatten(0, 1), direction.flatten(0, 1), wanted)
    return (start + steps.view(*genomes.shape[:2], 1) * direction).to(genomes.dtype)


MUTATIONS: Final[dict[str, Mutation]] = {"weights": mutate_weights, "function": mutate_functions}
"""Every kind of mutation that a recipe may name; a length of 0 changes nothing."""


def steps_to_change(spec: ActivationSpec, genomes: Tensor, directions: Tensor, wanted: Tensor) -> Tensor:
    """How far to go from each genome in its direction until its curve has changed as wanted.

    The change grows from 0 and not always steadily; of several solutions any may be found.  All functions are
    searched together, by secant steps and bisections within a bracket.

    Args:
        spec: what the functions share.
        genomes: (F, P) float64.
        directions: (F, P) float64.
        wanted: root mean square changes, (F,) float64, at least 0.

    Returns:
        t of each function, (F,): 0 where nothing is wanted, `LONGEST_STEP` where that is not far enough.
    """
    points, weights = _unit_normal()
    before = _curves(spec, genomes, points)
    probed = _curves(spec, genomes + _PROBE * directions, points)
    slope = _norm(probed - before, weights) / _PROBE
    steps = (wanted / slope).nan_to_num(nan=0.0).clamp(max=LONGEST_STEP)  # 0 / 0: nothing wanted, nothing changes
    low, low_error = torch.zeros_like(wanted), -wanted
    high, high_error = torch.full_like(wanted, float("inf")), torch.full_like(wanted, float("inf"))
    found, still = steps.clone(), torch.arange(len(wanted))
    for evaluation in range(_MOST_EVALUATIONS):
        after = _curves(spec, genomes + steps.unsqueeze(1) * directions, points)
        error = _norm(after - before, weights) - wanted
        found[still] = steps
        short = error < 0
        done = (error.abs() <= TOLERANCE * wanted) | (short & (steps >= LONGEST_STEP))
        if done.all():
            break
        low, low_error = torch.where(short, steps, low), torch.where(short, error, low_error)
        high, high_error = torch.where(short, high, steps), torch.where(short, high_error, error)
        further = steps * (1.1 * wanted / (wanted + error)).clamp(max=4.0)
        secant = low - low_error * (high - low) / (high_error - low_error)
        # One in three is a bisection, as secants alone can creep where the change is curved.
        within = (low + high) / 2 if evaluation % 3 == 2 else secant
        steps = torch.where(high.isinf(), further.clamp(max=LONGEST_STEP), within)
        left = ~done
        still, steps, wanted = still[left], steps[left], wanted[left]
        genomes, directions, before = genomes[left], directions[left], before[left]
        low, low_error, high, high_error = low[left], low_error[left], high[left], high_error[left]
    return found


def _unit_normal() -> tuple[Tensor, Tensor]:
    """Points (X,) and weights (X,): every second one of `normal_quadrature`, up to five standard deviations.

    At this distance, 1/8, the error of a change is below 1e-4 up to slopes of about 5 of a hidden unit, and a percent
    at 10.
    """
    points, weights = (t[48:-48:2] for t in normal_quadrature())
    return points, weights / weights.sum()


def _curves(spec: ActivationSpec, genomes: Tensor, points: Tensor) -> Tensor:
    return exact_values(spec, genomes, points.expand(len(genomes), -1))


def _norm(curves: Tensor, weights: Tensor) -> Tensor:
    return (curves.square() * weights).sum(dim=1).sqrt()
