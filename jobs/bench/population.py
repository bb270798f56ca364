"""Training many networks at once (P3), a learned mixed set against ReLU (P4), padding against buckets (P3-widths)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from jobs.bench._base import GROWTH_NETWORKS, GROWTH_WIDTHS, Conditions, Result, Size, agree, seconds_of
from jobs.bench.padded import padded, widen
from jobs.bench.references import sequential_relu, train_sequentially
from jobs.bench.work import Work, canonical
from ldnn_core.activations import UsualActivation

LOSS_TOLERANCE, ACCURACY_TOLERANCE = 1e-3, 5e-3
"""Largest relative errors of the losses of all inner steps and of the final accuracies against the reference."""

PADDED_TOLERANCE = 1e-10
"""Largest relative error of padded networks to the same in buckets, float64."""

BUCKET_WIDTHS = (20, 50, 100, 200)
"""Widths that are trained at once by padding or by buckets."""


def measure_population(conditions: Conditions) -> list[Result]:
    """P3 and P4 at the canonical size, and the growth over N and width."""
    device, quick = conditions.device, conditions.quick
    steps, width, many, few = (8, 10, 4, 2) if quick else (100, 100, 128, 8)
    batch, some = (canonical(device, steps=steps, width=width, networks=n) for n in (many, few))
    own_sets = canonical(device, steps=steps, width=width, networks=many, sets=many)
    check = check_relu(some)
    actions = batch.train_mixed, batch.train_relu, own_sets.train_mixed, lambda: train_sequentially(some)
    mixed, relu, own, sequential = seconds_of(device, *actions)
    base = (
        batch.size("mixed", mixed),
        batch.size("ReLU", relu),
        own_sets.size("mixed, a set for each network", own),
        some.size("nn.Module with ReLU, one by one", sequential),
    )
    group = 2 if quick else 16
    over_networks = [(n, width) for n in ((1, 2) if quick else GROWTH_NETWORKS)]
    over_width = [(group, w) for w in ((5, 20) if quick else GROWTH_WIDTHS)]
    grown = [_both(device, steps, w, n) for n, w in (*over_networks, *over_width)]
    ratios = [
        {key: of_mixed[key] for key in ("T", "N", "width")} | {"ratio": of_mixed["seconds"] / of_relu["seconds"]}
        for of_mixed, of_relu in (base[:2], *grown)
    ]
    speed = f"training with a learned mixed set, per network, batch of {many}: sequential nn.Module ReLU ÷ ours"
    ratio = (sequential / few) / (mixed / many)
    sizes = (*base, *(size for pair in grown for size in pair))
    cost = f"learned mixed ÷ ReLU in our engine, batch of {many}"
    return [
        Result("P3", speed, ratio, 3, "ratio", sizes, conditions, at_least=True, check=check),
        Result("P4", cost, mixed / relu, 1.4, "ratio", tuple(ratios), conditions),
        _several_widths(conditions),
    ]


def _several_widths(conditions: Conditions) -> Result:
    """Networks of several widths at once: one batch padded to the widest against a bucket for each width."""
    device, quick = conditions.device, conditions.quick
    steps, widths = (8, (5, 10)) if quick else (100, BUCKET_WIDTHS)
    check = check_padded(device, steps=min(steps, 10), widths=widths)
    sizes: list[Size] = []
    ratio = 0.0
    for each in (1, 2) if quick else (1, 8, 32):
        works = [canonical(device, steps=steps, width=width, networks=each) for width in widths]
        by_padding, by_buckets = seconds_of(device, padded(works).train, partial(_train_each, works))
        ratio = by_padding / by_buckets
        both = {"padded_seconds": by_padding, "bucket_seconds": by_buckets, "ratio": ratio}
        sizes.append({"T": steps, "N": each * len(widths), "widths": ", ".join(map(str, widths))} | both)
    what = f"training {sizes[-1]['N']} networks of {len(widths)} widths: padded to the widest ÷ a bucket for each width"
    return Result("P3-widths", what, ratio, 1, "ratio", tuple(sizes), conditions, at_least=True, check=check)


def _train_each(works: Sequence[Work]) -> None:
    for work in works:
        work.train_mixed()


def check_padded(
    device: str, *, steps: int, widths: Sequence[int], tolerance: float = PADDED_TOLERANCE
) -> dict[str, float]:
    """The relative error of padded networks to those of buckets after training, in float64.

    Raises:
        DisagreementError: it is above its tolerance.
    """
    works = [canonical(device, steps=steps, width=width, networks=2, dtype=torch.float64) for width in widths]
    buckets = [widen(work.train_mixed().parameters, work.network, works[-1].network) for work in works]
    return {"padded": agree("padded networks", padded(works).train(), torch.cat(buckets), tolerance)}


def check_relu(
    work: Work, loss_tolerance: float = LOSS_TOLERANCE, accuracy_tolerance: float = ACCURACY_TOLERANCE
) -> dict[str, float]:
    """Relative errors of all training losses and of the final accuracies against one `nn.Module` after the other.

    Raises:
        DisagreementError: one is above its tolerance.
    """
    ours = work.train_relu()
    losses, accuracies = sequential_relu(work)
    with torch.no_grad():
        x = work.batches.x.unsqueeze(0)
        outputs = work.network.forward(ours.parameters, x, UsualActivation("relu"))[0]
    right = (outputs.argmax(dim=-1) == work.batches.y).double().mean(dim=-1)
    return {
        "losses": agree("training losses", ours.losses, losses, loss_tolerance),
        "accuracy": agree("accuracy", right, accuracies, accuracy_tolerance),
    }


def _both(device: str, steps: int, width: int, networks: int) -> tuple[Size, Size]:
    work = canonical(device, steps=steps, width=width, networks=networks)
    mixed, relu = seconds_of(device, work.train_mixed, work.train_relu)
    return work.size("mixed", mixed), work.size("ReLU", relu)
