"""Judging activations: fresh networks trained with frozen arms and measured on rows they have not seen.

Shapes: A arms, S seeds, N = A · S networks (arm after arm), R judging rows, H units.
Networks of one seed share initial parameters and batches across arms, so that differences of arms are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ldnn_core.accelerator import block_bytes
from ldnn_core.activations import Activation, GroupedActivation
from ldnn_core.ensemble import Ensemble
from ldnn_core.examination import Examination, is_looked_up
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Network
from ldnn_core.optimizers import Optimizer
from ldnn_core.randomness import derive_seed, generator
from ldnn_core.regime import Regime
from ldnn_core.tasks import Rows, TaskData
from ldnn_core.training import Batches, InnerProblem, TrainState, shuffled_rows, train

ACTIVATION_BYTES = 4 << 20
"""On a CPU networks are trained in groups whose hidden units of one batch take about this much memory: enough of them
that the cost of a call does not count, few enough that parameters and optimiser slots stay in the cache from step to
step."""


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
        regime: what happens beside that.
    """

    optimizer: Optimizer
    lr: float | Mapping[str, float]
    steps: int
    batch_size: int
    regime: Regime = field(default_factory=Regime)

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
            than `ldnn_core.examination.MOST_MEASURED_UNITS`.
        participation_ratio_corrected: the same from two halves of the rows; None if undefined.
        weight_norm: Euclidean norm of all weights and biases; None if diverged.
        outside_table: share of pre-activations on the judging rows outside the table of a learned activation, where
            it is a straight line; None for what is not looked up.
        preactivation_density: share of the pre-activations on the judging rows in each bin of
            `ldnn_core.preactivations`, the mean over hidden layers; None for what is not looked up, or if diverged.
        snapshot_accuracies: accuracy of the network as it was at each snapshot of the regime; None without them.
        ensemble_accuracy: of the mean of the snapshots' class probabilities; None without them.
        ensemble_weighted_accuracy: of a mean weighted by exp(-training loss) of each snapshot's epoch.
        error_correlation: mean correlation of the errors of two snapshots; None if undefined.
        snapshot_distance: mean over pairs of snapshots of their root mean square difference per parameter.
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
    snapshot_accuracies: tuple[float, ...] | None
    ensemble_accuracy: float | None
    ensemble_weighted_accuracy: float | None
    error_correlation: float | None
    snapshot_distance: float | None
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
    """The fully connected network for a task.

    Args:
        data: the task, which says how many inputs and outputs there are, and the loss.
        hidden: units of each hidden layer.
    """
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
    train_rows, judge_rows = data.split(split)
    examination = Examination(data, network, judge_rows, train_rows.x)
    of_seed = len(arms) * training.batch_size * examination.bytes_per_row
    group = max(1, block_bytes(ACTIVATION_BYTES, train_rows.x) // of_seed)
    by_arm: dict[str, list[Judgement]] = {arm: [] for arm in arms}
    for start in range(0, len(seeds), group):
        for judgement in _judge_group(
            examination, arms, seeds[start : start + group], training, root_seed, train_rows, observe
        ):
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


def fresh_networks(network: Network, seeds: Sequence[int], root_seed: int) -> Tensor:
    """The networks of these seeds before their first inner step, (S, Θ) on the CPU; the same for all arms."""
    return network.initial_parameters([generator(root_seed, "network", *network.channels, s) for s in seeds])


def rows_of_steps(train_rows: Rows, batch_size: int, steps: int, seeds: Sequence[int], root_seed: int) -> Tensor:
    """Which rows the networks of these seeds see at their first inner steps, (steps, S, batch size)."""
    sources = [generator(root_seed, "batches", s) for s in seeds]
    return shuffled_rows(len(train_rows), batch_size, steps, sources).to(train_rows.x.device)


def _judge_group(
    examination: Examination,
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    training: Training,
    root_seed: int,
    train_rows: Rows,
    observe: Callable[[TrainedGroup], None] | None,
) -> list[Judgement]:
    started = time.perf_counter()
    data, network, per_epoch = examination.data, examination.network, len(train_rows) // training.batch_size
    device, count = train_rows.x.device, len(arms) * len(seeds)
    fresh = fresh_networks(network, seeds, root_seed)
    rows = rows_of_steps(train_rows, training.batch_size, training.steps, seeds, root_seed)
    noise_seeds = tuple(derive_seed(root_seed, "noise", s) for s in seeds) if network.dropped else ()
    batches = Batches(train_rows.x, train_rows.y, rows, noise_seeds=noise_seeds).repeated(len(arms))
    own = {name: arm.make(seeds) if isinstance(arm, PerSeed) else arm for name, arm in arms.items()}
    activation = GroupedActivation(tuple((arm, len(seeds)) for arm in own.values()))
    classifies = data.metric == "accuracy"
    accuracies: list[Tensor] = []

    def after_step(state: TrainState) -> None:
        if classifies and state.step % per_epoch == 0 and state.step < training.steps:
            accuracies.append(examination.accuracy(state.parameters, activation))

    rates = torch.tensor([training.lr_of(arm) for arm in arms for _ in seeds], dtype=fresh.dtype, device=device)
    problem = InnerProblem(network, training.optimizer, rates.unsqueeze(1))
    parameters = fresh.repeat(len(arms), 1).to(device)
    trained = train(problem, parameters, batches, activation, after_step=after_step, regime=training.regime)
    with torch.no_grad():
        measured = examination.measured(trained, per_epoch, [*own.values()], len(seeds), activation)
        snapshots, ensemble = training.regime.snapshots, None
        if snapshots and classifies:
            ensemble = examination.together(trained, per_epoch, snapshots, activation)
    diverged = measured["diverged"]
    if classifies:
        accuracies.append(measured["accuracy"])
    by_epoch = torch.stack(accuracies, dim=1).tolist() if classifies else None
    columns = {name: column.tolist() for name, column in measured.items()}
    names = [(arm, seed) for arm in arms for seed in seeds]
    each = (time.perf_counter() - started) / count
    if observe is not None:
        group = TrainedGroup(network, tuple(arms), tuple(seeds), trained.parameters, diverged, activation, train_rows)
        observe(group)
    judgements = []
    for index, (arm, seed) in enumerate(names):
        row = {name: column[index] for name, column in columns.items()}
        lost, looked_up = row["diverged"], is_looked_up(own[arm])
        epochs = None if by_epoch is None else tuple(by_epoch[index])
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
                **_ensemble_columns(ensemble, index, lost),
                num_params=network.num_params,
                inner_steps=training.steps,
                wall_seconds=each,
                batch_of_networks=count,
            )
        )
    return judgements


def _ensemble_columns(ensemble: Ensemble | None, index: int, lost: bool) -> dict[str, Any]:
    """What a judgement says of the snapshots of one network."""
    names = ("ensemble_accuracy", "ensemble_weighted_accuracy", "error_correlation", "snapshot_distance")
    if ensemble is None or lost:
        return {"snapshot_accuracies": None, **dict.fromkeys(names)}
    found = (ensemble.accuracy, ensemble.weighted_accuracy, ensemble.error_correlation, ensemble.distance)
    values = {name: _finite(float(column[index]), False) for name, column in zip(names, found, strict=True)}
    return {"snapshot_accuracies": tuple(ensemble.member_accuracies[index].tolist()), **values}


def _finite(value: float, diverged: bool) -> float | None:
    return value if not diverged and abs(value) < float("inf") else None
