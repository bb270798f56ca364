"""Trained networks on rows that they have not seen: block by block, and everything that is measured of them.

Shapes: N networks, arm after arm, R judging rows, H units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation, GroupedActivation, TableBank
from ldnn_core.ensemble import Ensemble, judge_ensemble
from ldnn_core.network import Layer, Network, widest_layer
from ldnn_core.participation import corrected_participation_ratio, participation_ratio
from ldnn_core.preactivations import DENSITY_BINS, share_in_bins, share_outside
from ldnn_core.tasks import Rows, TaskData
from ldnn_core.training import Trained

JUDGED_BYTES: Final = 64 << 20
"""Judging rows are taken in blocks whose widest layer of all networks of a group takes at most about this much."""

SETTLED_ON: Final = 2000
"""Rows that a network settles on at most: the first that it was trained on."""

MOST_MEASURED_UNITS: Final = 2048
"""A wider layer has no participation ratio: its covariance would cost more than the training."""


@dataclass(frozen=True)
class Examination:
    """What measures networks.

    Attributes:
        data: the task.
        network: their kind.
        rows: judging rows.
        seen: inputs of rows that the networks were trained on, which some kinds of network settle on.
    """

    data: TaskData
    network: Network
    rows: Rows
    seen: Tensor

    @property
    def bytes_per_row(self) -> int:
        """Memory of the widest hidden layer of one network for one row."""
        return widest_layer(self.network, self.data.shape) * self.rows.x.element_size()

    def settled(self, parameters: Tensor, activation: Activation) -> Network:
        """The networks as they are judged."""
        return self.network.settled(parameters, activation, self.seen[:SETTLED_ON])

    def swept(self, parameters: Tensor, activation: Activation) -> Iterator[tuple[float, Tensor, Tensor, list[Layer]]]:
        """Blocks of judging rows: their share of all rows, outputs, targets, and hidden layers."""
        x, y = self.rows.x, self.rows.y
        settled = self.settled(parameters, activation)
        size = max(1, JUDGED_BYTES // (len(parameters) * self.bytes_per_row))
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            z, layers = settled.forward(parameters, x[None, rows], activation)
            yield len(x[rows]) / len(x), z, y[rows], layers

    def accuracy(self, parameters: Tensor, activation: Activation) -> Tensor:
        """Share of right answers (N,) in float64; chance where outputs are not finite."""
        blocks = [
            (self.data.accuracy(z, y) * share, all_finite(z)) for share, z, y, _ in self.swept(parameters, activation)
        ]
        finite = torch.stack([finite for _, finite in blocks]).all(dim=0)
        return torch.stack([right for right, _ in blocks]).sum(dim=0).masked_fill(~finite, self.data.chance)

    def together(self, trained: Trained, per_epoch: int, snapshots: Sequence[int], activation: Activation) -> Ensemble:
        """The snapshots of each network as an ensemble; a snapshot's weight is exp(-training loss of its epoch).

        Args:
            trained: the networks with their snapshots.
            per_epoch: inner steps of an epoch.
            snapshots: inner steps after which the snapshots were taken.
            activation: of all networks.
        """
        logits = []
        for parameters in trained.snapshots:
            logits.append(torch.cat([z for _, z, _, _ in self.swept(parameters, activation)], dim=1))
        losses = torch.stack([trained.losses[max(0, step - per_epoch) : step].mean(dim=0) for step in snapshots])
        weights = torch.exp(losses.min(dim=0).values - losses).nan_to_num(nan=1.0)
        return judge_ensemble(torch.stack(logits), self.rows.y, torch.stack(trained.snapshots), weights)

    def measured(
        self,
        trained: Trained,
        per_epoch: int,
        arms: Sequence[Activation],
        seeds: int,
        activation: Activation,
    ) -> dict[str, Tensor]:
        """What there is to know of trained networks, name → (N, ...), without a graph.

        Args:
            trained: the networks, arm after arm.
            per_epoch: inner steps of an epoch.
            arms: the activation of each arm.
            seeds: networks per arm.
            activation: of all networks.
        """
        data, parameters = self.data, trained.parameters
        count, device = len(parameters), parameters.device
        ends = parameters.new_tensor([table_ends(arm) for arm in arms for _ in range(seeds)])
        looked_up = [slice(i * seeds, (i + 1) * seeds) for i, arm in enumerate(arms) if is_looked_up(arm)]
        accuracy, outside = (torch.zeros(count, dtype=torch.float64, device=device) for _ in range(2))
        density = torch.zeros(count, DENSITY_BINS, dtype=torch.float64, device=device)
        loss = parameters.new_zeros(count)
        finite = ~trained.diverged
        first: list[Tensor] = []
        for share, z, y, layers in self.swept(parameters, activation):
            finite = finite & all_finite(z)
            loss += share * data.loss.value(z, y.unsqueeze(0))
            if data.metric == "accuracy":
                accuracy += share * data.accuracy(z, y)
            for layer in layers:
                weight = share / len(layers)
                for networks in looked_up:
                    outside[networks] += weight * share_outside(layer.pre[networks], ends[networks])
                    density[networks] += weight * share_in_bins(layer.pre[networks])
            if layers[0].units.shape[2] <= MOST_MEASURED_UNITS:
                first.append(layers[0].units)
        units = torch.cat(first, dim=1) if len(first) > 1 else first[0] if first else parameters.new_zeros(count, 4, 1)
        found = {
            "accuracy": accuracy.masked_fill(~finite, data.chance),
            "loss": loss,
            "diverged": ~finite,
            "train_loss": trained.losses[-per_epoch:].mean(dim=0),
            "epoch_losses": torch.stack([epoch.mean(dim=0) for epoch in trained.losses.split(per_epoch)], dim=1),
            "ratio": participation_ratio(units),
            "corrected": corrected_participation_ratio(units),
            "weight_norm": parameters.norm(dim=1),
            "outside": outside,
            "density": density,
        }
        if data.orbits is not None:
            settled = self.settled(parameters, activation)
            found["rollout_error"] = data.rollout_error(lambda x: settled.forward(parameters, x, activation)[0])
        return found


def all_finite(z: Tensor) -> Tensor:
    """Whether all outputs of each network are finite, (N,)."""
    return torch.isfinite(z).flatten(1).all(dim=1)


def is_looked_up(arm: Activation) -> bool:
    """Whether all functions of an arm come from tables."""
    if isinstance(arm, GroupedActivation):
        return all(is_looked_up(activation) for activation, _ in arm.groups)
    return isinstance(arm, BankActivation) and isinstance(arm.bank, TableBank)


def table_ends(arm: Activation) -> tuple[float, float]:
    """Between which pre-activations an arm is tabulated; all, if it is not.  Groups of one arm share a grid."""
    if isinstance(arm, GroupedActivation):
        return table_ends(arm.groups[0][0])
    if isinstance(arm, BankActivation) and isinstance(arm.bank, TableBank):
        return arm.bank.table.grid.ends
    return -float("inf"), float("inf")
