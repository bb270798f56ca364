"""Ensembles of snapshots of one training: how good together, how good alone, how alike in their errors.

Shapes: N networks, S snapshots, R rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ensemble:
    """What the snapshots of N networks do on R rows.

    Attributes:
        member_accuracies: of each snapshot, (N, S), 0..1.
        accuracy: of the mean of their class probabilities, (N,).
        weighted_accuracy: the same with weights, (N,).
        error_correlation: mean over pairs of members of the correlation of their errors (Pearson), (N,): 1 for members
            that err on the same rows, 0 for independent ones; NaN for one member, or where all pairs have a member
            without an error or without a right answer.
        distance: mean over pairs of the root mean square difference of their parameters, (N,); NaN for one member.
    """

    member_accuracies: Tensor
    accuracy: Tensor
    weighted_accuracy: Tensor
    error_correlation: Tensor
    distance: Tensor


def judge_ensemble(logits: Tensor, y: Tensor, parameters: Tensor, weights: Tensor) -> Ensemble:
    """Judge the snapshots of each network as an ensemble (Huang et al. 2017, "Snapshot ensembles").

    Args:
        logits: outputs of every snapshot, (S, N, R, C).
        y: classes, (R,).
        parameters: of every snapshot, (S, N, Θ).
        weights: of every snapshot, (S, N), not negative; need not sum to 1.

    Raises:
        ValueError: the weights of a network are all zero or one is negative.
    """
    if bool((weights < 0).any()) or bool((weights.sum(dim=0) <= 0).any()):
        raise ValueError("weights must be >= 0 with a positive sum for every network")
    probabilities = logits.double().softmax(dim=-1)
    share = (weights / weights.sum(dim=0)).double()
    together = probabilities.mean(dim=0)
    weighted = torch.einsum("sn,snrc->nrc", share, probabilities)
    wrong = (probabilities.argmax(dim=-1) != y).double()
    return Ensemble(
        member_accuracies=(1 - wrong.mean(dim=-1)).T.contiguous(),
        accuracy=(together.argmax(dim=-1) == y).double().mean(dim=-1),
        weighted_accuracy=(weighted.argmax(dim=-1) == y).double().mean(dim=-1),
        error_correlation=_mean_correlation(wrong),
        distance=_mean_distance(parameters),
    )


def _mean_correlation(wrong: Tensor) -> Tensor:
    """Mean correlation of pairs of rows of zeros and ones, (S, N, R) → (N,); pairs without a correlation left out."""
    centred = wrong - wrong.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1)

    def correlation(i: int, j: int) -> Tensor:
        return (centred[i] * centred[j]).mean(dim=-1) / (variance[i] * variance[j]).sqrt()

    return _mean_of_pairs(wrong, correlation)


def _mean_distance(parameters: Tensor) -> Tensor:
    """Mean root mean square difference of pairs, (S, N, Θ) → (N,) in float64."""

    def distance(i: int, j: int) -> Tensor:
        return (parameters[i].double() - parameters[j].double()).square().mean(dim=-1).sqrt()

    return _mean_of_pairs(parameters, distance)


def _mean_of_pairs(members: Tensor, of: Callable[[int, int], Tensor]) -> Tensor:
    """Mean (N,) of what pairs of members (S, N, ...) have, but for NaN; a pair at a time, for memory's sake."""
    none = members.new_full(members.shape[1:2], float("nan"), dtype=torch.float64)
    return torch.stack([none, *(of(i, j) for i, j in combinations(range(len(members)), 2))]).nanmean(dim=0)
