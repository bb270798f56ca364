"""What a checkpoint that repels costs: time of an inner step more, and memory."""

from __future__ import annotations

from jobs.bench._base import Conditions, Result, Size, agree, seconds_of
from jobs.bench.work import Work, canonical
from ldnn_core.activations import UsualActivation
from ldnn_core.regime import Regime, Repulsion
from ldnn_core.training import Trained, train


def measure_regimes(conditions: Conditions) -> list[Result]:
    """P-repulsion: time of training with one checkpoint from the first step on, divided by that of plain training."""
    quick = conditions.quick
    steps, networks = (10, 2) if quick else (100, 16)
    counts = (1, 2) if quick else (1, 2, 4, 8)
    work = canonical(conditions.device, networks=networks, steps=steps, width=20 if quick else 100)
    plain = _trained(work, None)
    # Hills of no height change nothing, and cost what hills cost.
    check = {"parameters": agree("repulsion of no strength", _trained(work, 1).parameters, plain.parameters, 0.0)}
    best = seconds_of(
        conditions.device,
        lambda: _trained(work, None),
        *(lambda count=count: _trained(work, count) for count in counts),
    )
    per_step = [1e6 * seconds / steps / networks for seconds in best]
    sizes: list[Size] = [{"checkpoints": 0, "us_per_step_and_network": per_step[0], "ratio": 1.0}]
    sizes += [
        {
            "checkpoints": count,
            "us_per_step_and_network": taken,
            "ratio": taken / per_step[0],
            "us_per_checkpoint": (taken - per_step[0]) / count,
            "mb_per_checkpoint_and_network": work.problem.network.num_params * 4 / 1e6,
        }
        for count, taken in zip(counts, per_step[1:], strict=True)
    ]
    what = f"training with one repelling checkpoint ÷ without, relu, batch of {networks} networks"
    return [
        Result("P-repulsion", what, per_step[1] / per_step[0], None, "times", tuple(sizes), conditions, check=check)
    ]


def _trained(work: Work, checkpoints: int | None) -> Trained:
    regime = None
    if checkpoints is not None:
        regime = Regime(repulsion=Repulsion(0.0, 0.05, tuple(range(1, checkpoints + 1))))
    return train(work.problem, work.parameters, work.batches, UsualActivation("relu"), regime=regime)
