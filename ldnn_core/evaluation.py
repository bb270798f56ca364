"""Judging activations: fresh networks trained with frozen arms and measured on rows they have not seen.

Shapes: A arms, S seeds, N = A · S networks (arm after arm), R judging rows, H units.
Networks of one seed share initial parameters and batches across arms, so that differences of arms are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation, GroupedActivation, TableBank
from ldnn_core.mlp import MlpSpec, forward
from ldnn_core.network import Layer
from ldnn_core.optimizers import Optimizer
from ldnn_core.participation import corrected_participation_ratio, participation_ratio
from ldnn_core.randomness import generator
from ldnn_core.tasks import Rows, TaskData
from ldnn_core.training import Batches, InnerProblem, TrainState, shuffled_rows, train

ACTIVATION_BYTES = 4 << 20
"""Networks are trained in groups whose hidden units of one batch take about this much memory: enough of them that the
cost of a call does not count, few enough that parameters and optimiser slots stay in the cache from step to step."""


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
        accuracy: on the judging rows, 0..1; chance for a diverged network.
        loss: on the judging rows [nat]; None if diverged.
        train_loss: mean over the last epoch [nat]; None if diverged.
        diverged: whether a loss or parameter stopped being finite.
        best_epoch_accuracy: the highest accuracy after any epoch on the judging rows: optimistic.
        participation_ratio: R of the first hidden layer on the judging rows; None if undefined.
        participation_ratio_corrected: the same from two halves of the rows; None if undefined.
        weight_norm: Euclidean norm of all weights and biases; None if diverged.
        outside_table: share of pre-activations on the judging rows outside the table of a learned activation, where
            it is a straight line; None for what is not looked up.
        num_params: weights and biases of the network.
        inner_steps: inner steps of this network.
        wall_seconds: duration of its group divided by the networks in it [s].
        batch_of_networks: networks in its group.
    """

    arm: str
    lr: float
    seed: int
    accuracy: float
    loss: float | None
    train_loss: float | None
    diverged: bool
    best_epoch_accuracy: float
    participation_ratio: float | None
    participation_ratio_corrected: float | None
    weight_norm: float | None
    outside_table: float | None
    num_params: int
    inner_steps: int
    wall_seconds: float
    batch_of_networks: int


@dataclass(frozen=True)
class TrainedGroup:
    """Networks as they are after their last inner step, for measurements that are not made of every network.

    Attributes:
        network: their kind.
        parameters: (N, Θ), arm after arm.
        diverged: (N,) bool.
        activation: of all of them.
        rows: what they were trained on.
    """

    network: MlpSpec
    parameters: Tensor
    diverged: Tensor
    activation: GroupedActivation
    rows: Rows


def evaluate_arms(
    data: TaskData,
    hidden: tuple[int, ...],
    arms: Mapping[str, Activation],
    seeds: Sequence[int],
    training: Training,
    *,
    root_seed: int,
    split: str = "test",
    observe: Callable[[TrainedGroup], None] | None = None,
) -> list[Judgement]:
    """Train one network per arm and seed, and judge them.

    `TaskData.split` says which rows train and which judge.

    Args:
        data: the task.
        hidden: units of each hidden layer.
        arms: name → activation for any number of networks; a bank's functions have shape (1, H).
        seeds: which networks; the same seed is the same initial network, whatever the arm and the other seeds.
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
    network = MlpSpec(data.inputs, hidden, data.outputs, data.loss)
    bytes_per_seed = len(arms) * training.batch_size * max(hidden) * train_rows.x.element_size()
    group = max(1, ACTIVATION_BYTES // bytes_per_seed)
    by_arm: dict[str, list[Judgement]] = {arm: [] for arm in arms}
    for start in range(0, len(seeds), group):
        some = seeds[start : start + group]
        judged = _judge_group(data, network, arms, some, training, root_seed, train_rows, judge_rows, observe)
        for judgement in judged:
            by_arm[judgement.arm].append(judgement)
    return [judgement for judgements in by_arm.values() for judgement in judgements]


def evaluate_sizes(
    data: TaskData,
    sizes: Sequence[tuple[int, ...]],
    arms: Callable[[tuple[int, ...]], Mapping[str, Activation]],
    seeds: Sequence[int],
    training: Training,
    *,
    root_seed: int,
    split: str = "test",
) -> dict[tuple[int, ...], list[Judgement]]:
    """`evaluate_arms` for networks of several sizes, each size a bucket of its own.

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
        hidden: evaluate_arms(data, hidden, arms(hidden), seeds, training, root_seed=root_seed, split=split)
        for hidden in sizes
    }


def _judge_group(
    data: TaskData,
    network: MlpSpec,
    arms: Mapping[str, Activation],
    seeds: Sequence[int],
    training: Training,
    root_seed: int,
    train_rows: Rows,
    judge_rows: Rows,
    observe: Callable[[TrainedGroup], None] | None,
) -> list[Judgement]:
    started = time.perf_counter()
    device, count = train_rows.x.device, len(arms) * len(seeds)
    fresh = network.initial_parameters([generator(root_seed, "network", *network.hidden, s) for s in seeds])
    per_epoch = len(train_rows) // training.batch_size
    sources = [generator(root_seed, "batches", s) for s in seeds]
    rows = shuffled_rows(len(train_rows), training.batch_size, training.steps, sources).to(device)
    batches = Batches(train_rows.x, train_rows.y, rows).repeated(len(arms))
    activation = GroupedActivation(tuple((arm, len(seeds)) for arm in arms.values()))
    best = torch.zeros(count, dtype=torch.float64, device=device)

    def outputs(parameters: Tensor) -> tuple[Tensor, list[Layer]]:
        return forward(network, parameters, judge_rows.x.unsqueeze(0), activation)

    def after_step(state: TrainState) -> None:
        if state.step % per_epoch == 0 or state.step == training.steps:
            torch.maximum(best, data.accuracy(outputs(state.parameters)[0], judge_rows.y), out=best)

    rates = torch.tensor([training.lr_of(arm) for arm in arms for _ in seeds], dtype=fresh.dtype, device=device)
    problem = InnerProblem(network, training.optimizer, rates.unsqueeze(1))
    parameters = fresh.repeat(len(arms), 1).to(device)
    trained = train(problem, parameters, batches, activation, after_step=after_step)
    with torch.no_grad():
        z, layers = outputs(trained.parameters)
        first = layers[0].units
        ends = first.new_tensor([_table_ends(arm) for arm in arms.values() for _ in seeds])
        outside = torch.stack([_share_outside(layer.pre, ends) for layer in layers]).mean(dim=0)
        diverged = trained.diverged | ~torch.isfinite(z).all(dim=(1, 2))
        accuracy = data.accuracy(z, judge_rows.y).masked_fill(diverged, data.chance)
        best = best.masked_fill(diverged, data.chance)
        loss = data.loss.value(z, judge_rows.y.unsqueeze(0))
        ratio, corrected = participation_ratio(first), corrected_participation_ratio(first)
    train_loss = trained.losses[-per_epoch:].mean(dim=0)
    norm = trained.parameters.norm(dim=1)
    columns = [t.tolist() for t in (accuracy, loss, train_loss, diverged, best, ratio, corrected, norm, outside)]
    names = [(arm, seed) for arm in arms for seed in seeds]
    each = (time.perf_counter() - started) / count
    if observe is not None:
        observe(TrainedGroup(network, trained.parameters, diverged, activation, train_rows))
    return [
        Judgement(
            arm=arm,
            lr=training.lr_of(arm),
            seed=seed,
            accuracy=row[0],
            loss=_finite(row[1], row[3]),
            train_loss=_finite(row[2], row[3]),
            diverged=row[3],
            best_epoch_accuracy=row[4],
            participation_ratio=_finite(row[5], row[3]),
            participation_ratio_corrected=_finite(row[6], row[3]),
            weight_norm=_finite(row[7], row[3]),
            outside_table=row[8] if _is_looked_up(arms[arm]) else None,
            num_params=network.num_params,
            inner_steps=training.steps,
            wall_seconds=each,
            batch_of_networks=count,
        )
        for (arm, seed), row in zip(names, zip(*columns, strict=True), strict=True)
    ]


def _is_looked_up(arm: Activation) -> bool:
    return isinstance(arm, BankActivation) and isinstance(arm.bank, TableBank)


def _table_ends(arm: Activation) -> tuple[float, float]:
    """Between which pre-activations an arm is tabulated; all, if it is not."""
    if isinstance(arm, BankActivation) and isinstance(arm.bank, TableBank):
        return arm.bank.table.grid.ends
    return -float("inf"), float("inf")


def _share_outside(a: Tensor, ends: Tensor) -> Tensor:
    """The share (N,) of the pre-activations (N, R, H) outside (N, 2) ends."""
    low, high = ends.view(-1, 2, 1, 1).unbind(1)
    return ((a < low) | (a > high)).double().mean(dim=(1, 2))


def _finite(value: float, diverged: bool) -> float | None:
    return value if not diverged and abs(value) < float("inf") else None
