"""Estimators of the outer gradient side by side: bias, variance, seconds, and how fast a set improves with them.

The truth is the unrolled gradient, which is itself first held against plain PyTorch with the exact sub-network.  Every
repeat has a fresh classifier and fresh draws; exact and estimated gradient share the classifier, so that their
difference has the estimator's error alone.  Relative figures are in units of ‖ḡ‖, the norm of the mean exact gradient
(variances, summed over the weights, of ‖ḡ‖²).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from jobs.bench._base import Conditions, Result, Size, agree, seconds_of
from jobs.bench.memory import growth_of_estimator
from jobs.bench.meta_step import check_outer_step
from jobs.bench.outer_search import measure_progress
from jobs.bench.work import CARRIED, Work, canonical, contenders
from ldnn_core.estimators import Carry, Es, Estimator, OuterGradient, Pes, Truncated
from ldnn_core.randomness import derive_seed

REPEATS: Final = 40
"""Classifiers on which each estimator is compared with the exact gradient."""

MOST_STANDARD_ERRORS: Final = 4.0
"""An unbiased estimator exceeds this once in 16 000 times."""

UNBIASED: Final = ("es", "pes")
"""Estimators that draw and should have no bias but that of smoothing."""


def measure_estimators(conditions: Conditions) -> list[Result]:
    """E1 bias and variance, E2 seconds and memory, E3 and E4 progress at equal inner steps and at equal seconds."""
    device, quick = conditions.device, conditions.quick
    steps, width, length, repeats = (4, 10, 2, 3) if quick else (100, 100, 20, REPEATS)
    estimators = contenders(length)
    one = canonical(device, steps=steps, width=width)
    check = check_outer_step(one) | _check_equivalences(one, length)
    accuracy = _accuracy(canonical(device, steps=steps, width=width, networks=repeats), estimators)
    costs = _speed(device, one, estimators)
    if not quick:
        costs = [cost | _memory(device, str(cost["who"]), steps, width, length) for cost in costs]
    seconds = {str(cost["who"]): float(cost["seconds_per_inner_step"]) for cost in costs}
    at_steps, at_seconds = measure_progress(conditions, estimators, seconds)
    drawn = [abs(size["bias"]) / size["bias_sem"] for size in accuracy if size["who"] in UNBIASED]
    bias = "bias of es and pes along the exact gradient, the larger one, in its standard errors"
    cost = "seconds per inner step of a network: es ÷ unrolled"
    return [
        Result("E1", bias, max(drawn), MOST_STANDARD_ERRORS, "sem", tuple(accuracy), conditions, check=check),
        Result("E2", cost, seconds["es"] / seconds["unrolled"], 1, "ratio", tuple(costs), conditions),
        _progress("E3", "equal inner steps", at_steps, conditions),
        _progress("E4", "equal seconds", at_seconds, conditions),
    ]


def _progress(name: str, at: str, sizes: tuple[Size, ...], conditions: Conditions) -> Result:
    """The best of the other estimators' drops over that of the unrolled one; there is no right answer."""
    drops = {str(size["who"]): float(size["drop"]) for size in sizes}
    best = max((drop, who) for who, drop in drops.items() if who != "unrolled")
    what = f"drop of the held-out outer loss at {at}: best other estimator ({best[1]}) ÷ unrolled"
    return Result(name, what, best[0] / drops["unrolled"], None, "ratio", sizes, conditions, at_least=True)


def whole_loop(estimator: Estimator, work: Work, seed: int = 0) -> list[OuterGradient]:
    """The outer steps of one inner loop at a fixed set, one or several."""
    results: list[OuterGradient] = []
    carry: Carry | None = None
    while not results or carry is not None:
        results.append(work.outer_step(estimator, seed=derive_seed(seed, "bench-draws", len(results)), carry=carry))
        carry = results[-1].carry
    return results


def loop_gradient(estimator: Estimator, work: Work, seed: int = 0) -> Tensor:
    """The gradient of the whole loop's outer loss as estimated from all its pieces, weighted by their lengths."""
    results = whole_loop(estimator, work, seed)
    lengths = torch.tensor([len(result.losses) for result in results], dtype=torch.float64)
    gradients = torch.stack([result.gradient.double().cpu() for result in results])
    return torch.einsum("l,l...->...", lengths / lengths.sum(), gradients)


def _check_equivalences(work: Work, length: int) -> dict[str, float]:
    """Relative differences where two estimators must agree."""
    carried, cut = (loop_gradient(Truncated(length, carried=c), work) for c in (True, False))
    pes, es = (loop_gradient(estimator, work) for estimator in (Pes(len(work.batches)), Es()))
    return {
        "carried pieces": agree("carried pieces of a fixed set", carried, cut, 1e-4),
        "pes in one piece": agree("pes in one piece", pes, es, 0.0),
    }


def _accuracy(work: Work, estimators: Mapping[str, Estimator]) -> list[Size]:
    """Bias and variance of each estimator over the work's networks; carrying on changes nothing at a fixed set."""
    alone = [work.only(n) for n in range(len(work.parameters))]
    found = {
        who: torch.stack([loop_gradient(estimator, one, n).flatten() for n, one in enumerate(alone)])
        for who, estimator in estimators.items()
        if who != CARRIED
    }
    about = {"T": len(work.batches), "repeats": len(alone)}
    return [{"who": who} | about | error_figures(one, found["unrolled"]) for who, one in found.items()]


def error_figures(found: Tensor, exact: Tensor) -> dict[str, float]:
    """What a sample of estimates says of an estimator.

    Args:
        found: estimates, (repeats, weights).
        exact: what each should have been, (repeats, weights).

    Returns:
        ``cosine`` of estimate and exact gradient, mean over the repeats, with standard error ``cosine_sem``;
        ``bias``, the mean error's component along ḡ ÷ ‖ḡ‖, -1 for an estimator that finds nothing, with ``bias_sem``;
        ``bias_norm``, the norm of the whole mean error ÷ ‖ḡ‖ with what noise adds to it on average taken off, 0 where
        noise explains all; ``bias_noise``, the square root of what was taken off;
        ``error_variance`` of found - exact ÷ ‖ḡ‖² and ``variance`` of the estimates themselves ÷ ‖ḡ‖², which has the
        spread between classifiers as well.
    """
    repeats, truth = len(found), exact.mean(dim=0)
    error = found - exact
    along = error @ truth / truth.square().sum()
    cosine = torch.cosine_similarity(found, exact, dim=1)
    squared = float(truth.square().sum())
    error_variance = float(error.var(dim=0).sum()) / squared
    mean_error = float(error.mean(dim=0).square().sum()) / squared
    return {
        "cosine": float(cosine.mean()),
        "cosine_sem": float(cosine.std()) / repeats**0.5,
        "bias": float(along.mean()),
        "bias_sem": float(along.std()) / repeats**0.5,
        "bias_norm": max(mean_error - error_variance / repeats, 0.0) ** 0.5,
        "bias_noise": (error_variance / repeats) ** 0.5,
        "error_variance": error_variance,
        "variance": float(found.var(dim=0).sum()) / squared,
    }


def _memory(device: str, who: str, steps: int, width: int, length: int) -> Size:
    """Peak memory and its growth with T, in two processes; nothing for those that keep the records of ``unrolled``."""
    return {} if who in ("truncated", "first_order") else growth_of_estimator(device, who, steps, width, length)


def _speed(device: str, work: Work, estimators: Mapping[str, Estimator]) -> list[Size]:
    """Seconds of one inner loop with each estimator, one classifier."""
    actions = [lambda estimator=estimator: whole_loop(estimator, work) for estimator in estimators.values()]
    times = seconds_of(device, *actions)
    sizes = []
    for (who, estimator), seconds in zip(estimators.items(), times, strict=True):
        results = whole_loop(estimator, work)
        inner = sum(result.inner_steps for result in results)
        sizes.append(
            {
                "who": who,
                "T": len(work.batches),
                "outer_steps": len(results),
                "inner_steps": inner,
                "seconds_per_outer_step": seconds / len(results),
                "seconds_per_inner_step": seconds / inner,
            }
        )
    return sizes
