"""How large the signal is in every layer before the first training step: whether a network starts by blowing up.

The variance of a layer is taken over all its numbers at once, rows of a batch and units, in float64.  Of
pre-activations, whose weights are drawn around zero, it is what He et al. (2015, section 2.2) follow from layer to
layer: n v mean(x²) with n inputs x of a unit and weights of variance v.  It stays the same where n v is
mean(pre²) / mean(out²), which is 2 for relu; where the weights do not fit the activation, every layer multiplies it.

Shapes: S seeds, B rows of a batch, U units of a layer (channels times positions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ldnn_core.accelerator import block_bytes
from ldnn_core.evaluation import Arm, PerSeed, fresh_networks, rows_of_steps
from ldnn_core.network import Network
from ldnn_core.tasks import TaskData

GROUP_BYTES: Final = 32 << 20
"""Fully connected networks go together as long as their hidden units of one batch take about this much memory."""


@dataclass(frozen=True)
class InitialVariance:
    """One network before its first training step, on the rows of its first batch.

    Attributes:
        arm: its activation's name.
        seed: which of the paired networks it is.
        variance_in: of what goes into each activation, in the order in which a row passes them; None where not finite.
        variance_out: of what comes out of each; None where not finite.
    """

    arm: str
    seed: int
    variance_in: tuple[float | None, ...]
    variance_out: tuple[float | None, ...]


def measure_initial_variance(
    data: TaskData,
    network: Network,
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    *,
    batch_size: int,
    root_seed: int,
    split: str = "test",
) -> list[InitialVariance]:
    """The variance of the signal in networks that `ldnn_core.evaluation.evaluate_arms` would train, before it does.

    Batch normalisation is in training mode, by the moments of the batch; no unit is dropped.

    Args:
        data: the task.
        network: their kind.
        arms: name → activation.
        seeds: which networks.
        batch_size: rows of the first batch.
        root_seed: the evaluation's own seed.
        split: which rows will judge them; the others train.

    Returns:
        a result per network, arm after arm, seeds in the given order within each.
    """
    rows = data.split(split)[0]
    # A module has no hidden sizes to tell: one network after the other.
    units = sum(network.hidden)
    group = max(1, block_bytes(GROUP_BYTES, rows.x) // (batch_size * units * rows.x.element_size())) if units else 1
    by_arm: dict[str, list[InitialVariance]] = {arm: [] for arm in arms}
    for start in range(0, len(seeds), group):
        some = seeds[start : start + group]
        parameters = fresh_networks(network, some, root_seed).to(rows.x.device)
        first = rows_of_steps(rows, batch_size, 1, some, root_seed)[0]
        x = rows.x.index_select(0, first.reshape(-1)).view(*first.shape, *rows.x.shape[1:])
        for name, arm in arms.items():
            activation = arm.make(some) if isinstance(arm, PerSeed) else arm
            with torch.no_grad():
                layers = network.forward(parameters, x, activation)[1]
                going_in = torch.stack([variance(layer.pre) for layer in layers], dim=1)
                coming_out = torch.stack([variance(layer.units) for layer in layers], dim=1)
            for seed, one, other in zip(some, going_in.tolist(), coming_out.tolist(), strict=True):
                by_arm[name].append(InitialVariance(name, seed, _finite(one), _finite(other)))
    return [one for found in by_arm.values() for one in found]


def variance(layer: Tensor) -> Tensor:
    """The variance of all numbers of a layer (S, B, U) for each network, (S,) in float64; not finite if one is not.

    One network after the other, as the order in which several are summed up depends on how many there are.
    """
    return torch.stack([own.flatten().double().var(correction=0) for own in layer])


def _finite(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(value if abs(value) < float("inf") else None for value in values)
