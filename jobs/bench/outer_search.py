"""Short searches with each estimator: how far the outer loss of classifiers never searched with falls.

All searches start from the same sets, use the published outer rule and the same sequence of fresh classifiers, and are
judged by the same held-out classifiers.  The outer learning rate is the best of a few for each estimator, since a
noisy gradient wants a smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from jobs.bench._base import Conditions, Size
from jobs.bench.work import SPEC, Work, canonical
from ldnn_core.estimators import Carry, Estimator
from ldnn_core.outer import OuterSGD
from ldnn_core.population import evaluate_population
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import initial_genomes

OUTER_RATES: Final = (0.4, 1.6, 6.4)
"""Outer learning rates tried for every estimator; 0.4 is the published one, for searches many times as long."""

_HELD_OUT, _SEARCHED = 10_000_000, 1_000_000
"""Numbers of the first held-out classifier, and how many a search may take for itself."""


@dataclass(frozen=True)
class _Extent:
    """How large the searches are: T, width, inner steps each may spend, starts, held-out classifiers."""

    steps: int
    width: int
    budget: int
    starts: int
    held_out: int


def measure_progress(
    conditions: Conditions, estimators: Mapping[str, Estimator], seconds: Mapping[str, float]
) -> tuple[tuple[Size, ...], tuple[Size, ...]]:
    """Drops of the held-out outer loss at equal inner steps, and at equal seconds.

    Args:
        conditions: where, and whether small.
        estimators: by name.
        seconds: of one inner step of one network with each, by which equal seconds are turned into inner steps.
    """
    extent = _Extent(2, 10, 40, 2, 2) if conditions.quick else _Extent(100, 100, 4_000, 2, 32)
    judge = canonical(
        conditions.device, steps=extent.steps, width=extent.width, networks=extent.held_out, first=_HELD_OUT
    )
    before = torch.tensor([held_out_loss(judge, _start(judge, start)) for start in range(extent.starts)])
    at_steps: list[Size] = []
    at_seconds: list[Size] = []
    for who, estimator in estimators.items():
        budgets = [extent.budget, round(extent.budget * seconds["unrolled"] / seconds[who])]
        drops = {
            rate: before.unsqueeze(1)
            - torch.tensor(
                [_search(conditions, extent, judge, estimator, rate, s, budgets) for s in range(len(before))]
            )
            for rate in OUTER_RATES
        }
        for which, sizes in enumerate((at_steps, at_seconds)):
            sizes.append(_size(who, budgets[which], {rate: found[:, which] for rate, found in drops.items()}))
    return tuple(at_steps), tuple(at_seconds)


def held_out_loss(judge: Work, genomes: Tensor) -> float:
    """The outer loss of a set, (1, K, P), over the judge's classifiers."""
    found = evaluate_population(
        judge.problem, SPEC, genomes, judge.parameters, judge.batches, window=len(judge.batches)
    )
    return float(found.outer_loss[0])


def _start(judge: Work, start: int) -> Tensor:
    return initial_genomes(SPEC, start).to(judge.genomes)


def _search(
    conditions: Conditions,
    extent: _Extent,
    judge: Work,
    estimator: Estimator,
    rate: float,
    start: int,
    budgets: Sequence[int],
) -> list[float]:
    """Held-out losses of the last sets that each budget of inner steps pays for; NaN when the search diverged."""
    outer = OuterSGD(rate)
    genomes = _start(judge, start)
    momentum = outer.start(genomes)
    losses: dict[int, float] = {}
    carry: Carry | None = None
    step = spent = 0
    while len(losses) < len(set(budgets)):
        if carry is None:
            number = start * _SEARCHED + step
            work = canonical(conditions.device, steps=extent.steps, width=extent.width, first=number)
        seed = derive_seed(start, "bench-search", step)
        result = replace(work, genomes=genomes).outer_step(estimator, seed=seed, carry=carry)
        for budget in budgets:
            if budget not in losses and spent + result.inner_steps > budget:
                losses[budget] = held_out_loss(judge, genomes)
        if not (math.isfinite(result.outer_loss) and bool(torch.isfinite(result.gradient).all())):
            break
        genomes, momentum = outer.update(genomes, momentum, result.gradient)
        carry = result.carry
        spent += result.inner_steps
        step += 1
    return [losses.get(budget, math.nan) for budget in budgets]


def _size(who: str, budget: int, drops: Mapping[float, Tensor]) -> Size:
    """The drop at the rate that is best on average, with its standard error over the starts."""
    means = {rate: float(found.mean()) for rate, found in drops.items()}
    rate = max(means, key=lambda one: means[one] if math.isfinite(means[one]) else -math.inf)
    return {
        "who": who,
        "inner_steps": budget,
        "outer_lr": rate,
        "drop": means[rate],
        "drop_sem": float(drops[rate].std()) / len(drops[rate]) ** 0.5,
    } | {f"drop_at_{other:g}": mean for other, mean in means.items()}
