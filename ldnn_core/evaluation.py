"""Judging activations: fresh networks trained with frozen arms and measured on rows they have not seen.

Shapes: A arms, S seeds, N = A · S networks (arm after arm), R judging rows, H units.
Networks of one seed share initial parameters and batches across arms, so that differences of arms are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation, GroupedActivation, TableBank, UsualActivation
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Layer, Network
from ldnn_core.optimizers import Optimizer
from ldnn_core.participation import corrected_participation_ratio, participation_ratio
from ldnn_core.preactivations import DENSITY_BINS, share_in_bins, share_outside
from ldnn_core.randomness import derive_seed, generator
from ldnn_core.tasks import Rows, TaskData
from ldnn_core.training import Batches, InnerProblem, Trained, TrainState, shuffled_rows, train

ACTIVATION_BYTES = 4 << 20
"""Networks are trained in groups whose hidden units of one batch take about this much memory: enough of them that the
cost of a call does not count, few enough that parameters and optimiser slots stay in the cache from step to step."""

JUDGED_BYTES: Final = 64 << 20
"""Judging rows are taken in blocks whose widest layer of all networks of a group takes at most about this much."""

SETTLED_ON: Final = 2000
"""Rows that a network is settled on at most: batch normalisation takes its moments from the first of the training."""

MOST_MEASURED_UNITS: Final = 2048
"""A wider layer has no participation ratio: its covariance would cost more than the training."""


@dataclass(frozen=True)
class PerSeed:
    """An activation that differs from network to network: what the networks of some seeds use.

    Attributes:
        make: seeds → the activation of one network per seed, in their order; a seed's own functions must not depend on
            the other seeds.
    """

    make: Callable[[Sequence[int]], Activation]


Arm: TypeAlias = Activation | PerSeed
"""One activation for any number of networks (a bank's functions have shape (1, H)), or one that knows the seeds."""


@dataclass(frozen=True)
class Training:
    """How the networks of an evaluation are trained.

    Attributes:
        optimizer: of the networks.
        lr: learning rate, one for all arms or one for each by name.
        steps: inner steps.
        batch_size: rows per inner step.
    """

    optimizer: Optimizer
    lr: float | Mapping[str, float]
    steps: int
    batch_size: int

    def lr_of(self, arm: str) -> float:
        """The learning rate of an arm."""
        return self.lr if isinstance(self.lr, float) else self.lr[arm]


@dataclass(frozen=True)
class Judgement:
    """One trained network, measured after its last inner step.

    Attributes:
        arm: its activation's name.
        lr: its learning rate.
        seed: which of the paired networks it is.
        metric: what it is judged by: ``accuracy``, high is good, or ``loss``, low is good.
        accuracy: on the judging rows, 0..1; chance for a diverged network, None for regression.
        loss: on the judging rows, cross-entropy [nat] or squared error; None if diverged.
        train_loss: mean over the last epoch; None if diverged.
        diverged: whether a loss or parameter stopped being finite.
        best_epoch_accuracy: the highest accuracy after any epoch on the judging rows: optimistic.
        rollout_error: what the task's own measure of a rolled-out network says; None without one, or if not finite.
        epoch_accuracies: accuracy on the judging rows after every epoch, the last the `accuracy`; where outputs are not
            finite, chance; None for regression.
        epoch_losses: mean training loss of every epoch; None where not finite.
        participation_ratio: R of the first hidden layer on the judging rows; None if undefined, or if it has more
            than `MOST_MEASURED_UNITS`.
        participation_ratio_corrected: the same from two halves of the rows; None if undefined.
        weight_norm: Euclidean norm of all weights and biases; None if diverged.
        outside_table: share of pre-activations on the judging rows outside the table of a learned activation, where
            it is a straight line; None for what is not looked up.
        preactivation_density: share of the pre-activations on the judging rows in each bin of `share_in_bins`, the mean
            over hidden layers; None for what is not looked up, or if diverged.
        num_params: weights and biases of the network.
        inner_steps: inner steps of this network.
        wall_seconds: duration of its group divided by the networks in it [s].
        batch_of_networks: networks in its group.
    """

    arm: str
    lr: float
    seed: int
    metric: str
    accuracy: float | None
    loss: float | None
    train_loss: float | None
    diverged: bool
    best_epoch_accuracy: float | None
    rollout_error: float | None
    epoch_accuracies: tuple[float, ...] | None
    epoch_losses: tuple[float | None, ...]
    participation_ratio: float | None
    participation_ratio_corrected: float | None
    weight_norm: float | None
    outside_table: float | None
    preactivation_density: tuple[float, ...] | None
    num_params: int
    inner_steps: int
    wall_seconds: float
    batch_of_networks: int

    @property
    def goodness(self) -> float:
        """What it is judged by as a number that is to be large: its accuracy, or minus its loss."""
        if self.accuracy is not None:
            return self.accuracy
        return -float("inf") if self.loss is None else -self.loss


@dataclass(frozen=True)
class TrainedGroup:
    """Networks as they are after their last inner step, for measurements that are not made of every network.

    Attributes:
        network: their kind.
        arms: names of the arms.
        seeds: of the networks of each arm.
        parameters: (N, Θ), arm after arm, seeds in their order within each.
        diverged: (N,) bool.
        activation: of all of them, a group per arm.
        rows: what they were trained on.
    """

    network: Network
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    parameters: Tensor
    diverged: Tensor
    activation: GroupedActivation
    rows: Rows


def fully_connected(data: TaskData, hidden: tuple[int, ...]) -> MlpSpec:
    """The fully connected network for a task, with these hidden sizes."""
    return MlpSpec(data.inputs, hidden, data.outputs, data.loss)


def evaluate_arms(
    data: TaskData,
    network: Network,
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    training: Training,
    *,
    root_seed: int,
    split: str = "test",
    observe: Callable[[TrainedGroup], None] | None = None,
) -> list[Judgement]:
    """Train one network per arm and seed, and judge them.

    `TaskData.split` says which rows train and which judge.  Networks are judged after their last inner step.

    Args:
        data: the task.
        network: what is trained, e.g. `fully_connected`.
        arms: name → activation.
        seeds: which networks; the same seed is the same initial network, whatever the arm and the other seeds, and the
            same batches, whatever the network.
        training: how they are trained.
        root_seed: the evaluation's own seed.
        split: which rows judge, ``"val"`` or ``"test"``.
        observe: shown every group of trained networks, in order of their seeds; its time is in no judgement.

    Returns:
        a judgement per network, arm after arm, seeds in the given order within each.

    Raises:
        ValueError: no arms, no seeds or an unknown split.
    """
    if not arms or not seeds:
        raise ValueError(f"at least one arm and one seed are needed, but got {len(arms)} arms and {len(seeds)} seeds")
    examination = _Examination(data, network, *data.split(split), training, root_seed)
    group = max(1, ACTIVATION_BYTES // (len(arms) * training.batch_size * examination.bytes_per_row))
    by_arm: dict[str, list[Judgement]] = {arm: [] for arm in arms}
    for start in range(0, len(seeds), group):
        for judgement in _judge_group(examination, arms, seeds[start : start + group], observe):
            by_arm[judgement.arm].append(judgement)
    return [judgement for judgements in by_arm.values() for judgement in judgements]


def evaluate_sizes(
    data: TaskData,
    sizes: Sequence[tuple[int, ...]],
    arms: Callable[[tuple[int, ...]], Mapping[str, Arm]],
    seeds: Sequence[int],
    training: Training,
    *,
    root_seed: int,
    split: str = "test",
) -> dict[tuple[int, ...], list[Judgement]]:
    """`evaluate_arms` for fully connected networks of several sizes, each size a bucket of its own.

    Padding all networks to the widest would make one batch of them, but its cost is that of the widest for each.
    Measured by `ldnn bench population` (P3-widths: 20, 50, 100 and 200), buckets are about twice as fast from eight
    networks of each width on, and no slower with one; only with very few, very small networks does padding win.

    Args:
        data: the task.
        sizes: hidden sizes, each evaluated with all arms and seeds.
        arms: hidden sizes → name → activation.
        seeds: as for `evaluate_arms`, and so the rest.
        training: how networks are trained.
        root_seed: the evaluation's own seed.
        split: which rows judge.
    """
    return {
        hidden: evaluate_arms(
            data, fully_connected(data, hidden), arms(hidden), seeds, training, root_seed=root_seed, split=split
        )
        for hidden in sizes
    }


@dataclass(frozen=True)
class _Examination:
    """What all networks of an evaluation have in common."""

    data: TaskData
    network: Network
    train_rows: Rows
    judge_rows: Rows
    training: Training
    root_seed: int

    @property
    def bytes_per_row(self) -> int:
        """Memory of the widest hidden layer of one network for one row."""
        x = self.train_rows.x
        widest = max(self.network.hidden, default=0)
        if not widest:  # only a sweep tells how wide the layers of a module are
            with torch.no_grad():
                one = self.network.initial_parameters([generator(0, "size")]).to(x.device)
                layers = self.network.forward(one, x[None, :1], UsualActivation("relu"))[1]
            widest = max(layer.pre[0, 0].numel() for layer in layers)
        return widest * x.element_size()

    @property
    def per_epoch(self) -> int:
        """Inner steps of an epoch."""
        return len(self.train_rows) // self.training.batch_size

    def settled(self, parameters: Tensor, activation: Activation) -> Network:
        """The networks as they are judged, which may take a look at rows that they were trained on."""
        return self.network.settled(parameters, activation, self.train_rows.x[:SETTLED_ON])

    def swept(self, parameters: Tensor, activation: Activation) -> Iterator[tuple[float, Tensor, Tensor, list[Layer]]]:
        """Blocks of judging rows: their share of all rows, outputs, targets, and hidden layers."""
        x, y = self.judge_rows.x, self.judge_rows.y
        settled = self.settled(parameters, activation)
        size = max(1, JUDGED_BYTES // (len(parameters) * self.bytes_per_row))
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            z, layers = settled.forward(parameters, x[None, rows], activation)
            yield len(x[rows]) / len(x), z, y[rows], layers

    def accuracy(self, parameters: Tensor, activation: Activation) -> Tensor:
        """Share of right answers (N,) in float64; chance where outputs are not finite."""
        blocks = [
            (self.data.accuracy(z, y) * share, _all_finite(z)) for share, z, y, _ in self.swept(parameters, activation)
        ]
        finite = torch.stack([finite for _, finite in blocks]).all(dim=0)
        return torch.stack([right for right, _ in blocks]).sum(dim=0).masked_fill(~finite, self.data.chance)


def _judge_group(
    examination: _Examination,
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    observe: Callable[[TrainedGroup], None] | None,
) -> list[Judgement]:
    started = time.perf_counter()
    data, network, training = examination.data, examination.network, examination.training
    train_rows, root_seed = examination.train_rows, examination.root_seed
    device, count = train_rows.x.device, len(arms) * len(seeds)
    fresh = network.initial_parameters([generator(root_seed, "network", *network.channels, s) for s in seeds])
    sources = [generator(root_seed, "batches", s) for s in seeds]
    rows = shuffled_rows(len(train_rows), training.batch_size, training.steps, sources).to(device)
    noise_seeds = tuple(derive_seed(root_seed, "noise", s) for s in seeds) if network.dropped else ()
    batches = Batches(train_rows.x, train_rows.y, rows, noise_seeds=noise_seeds).repeated(len(arms))
    own = {name: arm.make(seeds) if isinstance(arm, PerSeed) else arm for name, arm in arms.items()}
    activation = GroupedActivation(tuple((arm, len(seeds)) for arm in own.values()))
    classifies = data.metric == "accuracy"
    accuracies: list[Tensor] = []

    def after_step(state: TrainState) -> None:
        if classifies and state.step % examination.per_epoch == 0 and state.step < training.steps:
            accuracies.append(examination.accuracy(state.parameters, activation))

    rates = torch.tensor([training.lr_of(arm) for arm in arms for _ in seeds], dtype=fresh.dtype, device=device)
    problem = InnerProblem(network, training.optimizer, rates.unsqueeze(1))
    parameters = fresh.repeat(len(arms), 1).to(device)
    trained = train(problem, parameters, batches, activation, after_step=after_step)
    with torch.no_grad():
        measured = _measured(examination, trained, own, len(seeds), activation)
    diverged = measured["diverged"]
    if classifies:
        accuracies.append(measured["accuracy"])
    by_epoch = torch.stack(accuracies, dim=1) if classifies else None
    columns = {name: column.tolist() for name, column in measured.items()}
    names = [(arm, seed) for arm in arms for seed in seeds]
    each = (time.perf_counter() - started) / count
    if observe is not None:
        group = TrainedGroup(network, tuple(arms), tuple(seeds), trained.parameters, diverged, activation, train_rows)
        observe(group)
    judgements = []
    for index, (arm, seed) in enumerate(names):
        row = {name: column[index] for name, column in columns.items()}
        lost, looked_up = row["diverged"], _is_looked_up(own[arm])
        epochs = None if by_epoch is None else tuple(by_epoch[index].tolist())
        judgements.append(
            Judgement(
                arm=arm,
                lr=training.lr_of(arm),
                seed=seed,
                metric=data.metric,
                accuracy=None if epochs is None else epochs[-1],
                loss=_finite(row["loss"], lost),
                train_loss=_finite(row["train_loss"], lost),
                diverged=lost,
                best_epoch_accuracy=None if epochs is None else epochs[-1] if lost else max(epochs),
                rollout_error=_finite(row["rollout_error"], lost) if "rollout_error" in row else None,
                epoch_accuracies=epochs,
                epoch_losses=tuple(_finite(loss, False) for loss in row["epoch_losses"]),
                participation_ratio=_finite(row["ratio"], lost),
                participation_ratio_corrected=_finite(row["corrected"], lost),
                weight_norm=_finite(row["weight_norm"], lost),
                outside_table=row["outside"] if looked_up else None,
                preactivation_density=tuple(row["density"]) if looked_up and not lost else None,
                num_params=network.num_params,
                inner_steps=training.steps,
                wall_seconds=each,
                batch_of_networks=count,
            )
        )
    return judgements


def _measured(
    examination: _Examination,
    trained: Trained,
    arms: Mapping[str, Activation],
    seeds: int,
    activation: GroupedActivation,
) -> dict[str, Tensor]:
    """What there is to know of trained networks, name → (N, ...)."""
    data, parameters = examination.data, trained.parameters
    count, device = len(parameters), parameters.device
    ends = parameters.new_tensor([_table_ends(arm) for arm in arms.values() for _ in range(seeds)])
    looked_up = [slice(i * seeds, (i + 1) * seeds) for i, arm in enumerate(arms.values()) if _is_looked_up(arm)]
    accuracy, outside = (torch.zeros(count, dtype=torch.float64, device=device) for _ in range(2))
    density = torch.zeros(count, DENSITY_BINS, dtype=torch.float64, device=device)
    loss = parameters.new_zeros(count)
    finite = ~trained.diverged
    first: list[Tensor] = []
    for share, z, y, layers in examination.swept(parameters, activation):
        finite = finite & _all_finite(z)
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
    per_epoch = examination.per_epoch
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
    settled = examination.settled(parameters, activation)
    rollout_error = data.rollout_error(lambda x: settled.forward(parameters, x, activation)[0])
    return found if rollout_error is None else found | {"rollout_error": rollout_error}


def _all_finite(z: Tensor) -> Tensor:
    return torch.isfinite(z).flatten(1).all(dim=1)


def _is_looked_up(arm: Activation) -> bool:
    if isinstance(arm, GroupedActivation):
        return all(_is_looked_up(activation) for activation, _ in arm.groups)
    return isinstance(arm, BankActivation) and isinstance(arm.bank, TableBank)


def _table_ends(arm: Activation) -> tuple[float, float]:
    """Between which pre-activations an arm is tabulated; all, if it is not.  Groups of one arm share a grid."""
    if isinstance(arm, GroupedActivation):
        return _table_ends(arm.groups[0][0])
    if isinstance(arm, BankActivation) and isinstance(arm.bank, TableBank):
        return arm.bank.table.grid.ends
    return -float("inf"), float("inf")


def _finite(value: float, diverged: bool) -> float | None:
    return value if not diverged and abs(value) < float("inf") else None
