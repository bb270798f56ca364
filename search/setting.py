"""From a trial's configuration to the objects of the core: the one place where the two vocabularies meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ldnn_core.accelerator import prepare
from ldnn_core.activations import BankActivation, TableBank, UsualActivation, mixed_functions
from ldnn_core.architectures import ARCHITECTURES
from ldnn_core.evaluation import Judgement, TrainedGroup, Training, evaluate_arms
from ldnn_core.network import Network
from ldnn_core.objective import Objective
from ldnn_core.optimizers import make_optimizer
from ldnn_core.population import evaluate_activation
from ldnn_core.randomness import derive_seed, generator
from ldnn_core.regime import Regime, Repulsion
from ldnn_core.schedule import Schedule
from ldnn_core.subnetwork import ActivationSpec
from ldnn_core.tasks import TASKS, TaskData, cache_folder
from ldnn_core.training import Batches, InnerProblem, Validation, shuffled_rows
from search.config import TrialConfig
from search.config_judging import RegimeConfig, TrainingConfig
from search.config_tables import LdnnConfig
from search.config_tasks import TaskConfig


@lru_cache(maxsize=4)
def load_task(config: TaskConfig, device: str) -> TaskData:
    """The data of a task on a device, kept for the life of the process; the device is made ready for work."""
    prepare(device)
    return TASKS[config.name](**config.settings).load(cache_folder()).to(device)


def activation_spec(ldnn: LdnnConfig) -> ActivationSpec:
    """What all sets of a trial share."""
    return ActivationSpec(
        base=ldnn.base,
        num_types=ldnn.num_types,
        hidden=ldnn.subnet_hidden,
        scale=ldnn.subnet_scale,
        normalized=ldnn.normalized,
        table_range=ldnn.table_range,
        table_scale=ldnn.table_scale,
    )


def training(config: TrainingConfig, train_rows: int, regime: RegimeConfig) -> Training:
    """How evaluated networks are trained on that many rows."""
    optimizer = make_optimizer(config.optimizer, momentum=config.momentum, decay=config.decay)
    per_epoch = train_rows // config.batch_size
    steps = config.epochs * per_epoch
    return Training(optimizer, config.lr, steps, config.batch_size, _regime(regime, steps, per_epoch))


def _regime(config: RegimeConfig, steps: int, per_epoch: int) -> Regime:
    """What happens while networks are trained for that many inner steps, so many of them an epoch."""
    schedule = Schedule(
        config.schedule,
        steps,
        epoch=per_epoch,
        gamma=config.gamma,
        stepsize=config.stepsize,
        growth=config.growth,
        floor=config.floor,
    )
    repulsion = None
    if config.repulsion_strength:
        at = tuple(epoch * per_epoch for epoch in config.repulsion_epochs)
        repulsion = Repulsion(config.repulsion_strength, config.repulsion_width, at)
    snapshots = tuple(epoch * per_epoch for epoch in config.snapshots)
    return Regime(schedule, config.weight_decay, repulsion, snapshots)


def make_network(data: TaskData, architecture: str, width: int, depth: int) -> Network:
    """A kind of network, of a size, for a task.

    Raises:
        ValueError: the task has no such inputs, or networks of this size have not.
    """
    return ARCHITECTURES[architecture](data.shape, data.outputs, width, depth, data.loss)


@dataclass(frozen=True)
class Setting:
    """A trial's task, networks and set, ready to run.

    Attributes:
        config: of the trial.
        data: its task on its device.
        spec: what its sets share.
        problems: its inner problems, one for each network size that sets are tried at.
        objective: how their outer losses become one number.
    """

    config: TrialConfig
    data: TaskData
    spec: ActivationSpec
    problems: tuple[InnerProblem, ...]
    objective: Objective

    @staticmethod
    def of(config: TrialConfig, device: str) -> Setting:
        """The setting of a trial on a device."""
        data, inner, wanted = load_task(config.task, device), config.inner, config.objective
        optimizer = make_optimizer(inner.optimizer, momentum=inner.momentum, decay=inner.decay)
        validation = None
        if wanted.measure != "train_loss":
            error = (lambda z, y: 1 - data.skill(z, y)) if wanted.measure == "val_accuracy" else None
            validation = Validation(data.val.x, data.val.y, error)
        networks = (make_network(data, config.ldnn.architecture, width, depth) for width, depth in config.sizes)
        mixing = config.ldnn.mixing
        problems = tuple(InnerProblem(network, optimizer, inner.lr, validation, mixing) for network in networks)
        objective = Objective(wanted.over, wanted.spread_weight, wanted.closeness_weight, wanted.closeness_distance)
        return Setting(config, data, activation_spec(config.ldnn), problems, objective)

    @property
    def device(self) -> torch.device:
        """Where the data lies."""
        return self.data.train.x.device

    def classifiers(self, problem: InnerProblem, outer_step: int, count: int, first: int = 0) -> tuple[Tensor, Batches]:
        """Fresh classifiers (count, Θ) and their inner loops' batches, different at every outer step.

        Networks of all sizes see the same batches.

        Args:
            problem: their size.
            outer_step: outer step or generation.
            count: how many.
            first: the number of the first, for a shard of the outer step's classifiers.
        """
        seed, inner = self.config.seed, self.config.inner
        index = [(outer_step, c) for c in range(first, first + count)]
        parameters = problem.network.initial_parameters([generator(seed, "classifier", *i) for i in index])
        sources = [generator(seed, "batches", *i) for i in index]
        rows = shuffled_rows(len(self.data.train), inner.batch_size, inner.steps, sources).to(self.device)
        noise_seeds = tuple(derive_seed(seed, "noise", *i) for i in index)
        batches = Batches(self.data.train.x, self.data.train.y, rows, noise=inner.noise, noise_seeds=noise_seeds)
        return parameters.to(self.device), batches.repeated(1)

    def baseline(self, problem: InnerProblem, parameters: Tensor, batches: Batches) -> tuple[float, int]:
        """What is subtracted from the outer loss at one size, and the inner steps it cost."""
        usual = self.config.objective.relative_to
        if usual == "nothing":
            return 0.0, 0
        window = self.config.inner.loss_window
        judged = evaluate_activation(problem, UsualActivation(usual), parameters, batches, window)
        return float(judged.outer_loss), judged.inner_steps

    def mixed(self, genomes: Tensor, network: Network) -> BankActivation:
        """The set (K, P) spread over the units of a network."""
        bank = TableBank(self.spec, genomes.unsqueeze(0).to(self.device))
        mixing = self.config.ldnn.mixing
        functions = mixed_functions(network.channels, self.spec.num_types, blocks=network.blocks, mixing=mixing)
        return BankActivation(bank, functions)

    def probe(self, genomes: Tensor) -> float:
        """Validation accuracy, or skill for a regression, of fresh networks trained by the inner loop, without noise.

        All probes of a run use the same networks, so that sets, steps and methods can be compared.
        """
        inner = self.config.inner
        optimizer = self.problems[0].optimizer
        as_inner = Training(optimizer, inner.lr, inner.steps, inner.batch_size)
        accuracies = self._accuracies(genomes, self.config.sizes, as_inner, "probe", self.config.probe_networks)
        return float(self.combined(accuracies).mean())

    def scored(self, accuracies: Tensor) -> tuple[float, float]:
        """The score and its standard error from the `score_accuracies` at the trial's own sizes."""
        combined = self.combined(accuracies)
        return float(combined.mean()), float(combined.std() / len(combined) ** 0.5)

    def score_accuracies(
        self,
        genomes: Tensor,
        sizes: Sequence[tuple[int, int]],
        *,
        observe: Callable[[TrainedGroup], None] | None = None,
    ) -> Tensor:
        """Validation accuracies, or skills for a regression, of the networks of a score, (sizes, networks).

        Args:
            genomes: the set, (K, P).
            sizes: width and depth of the networks.
            observe: shown the trained networks.
        """
        as_evaluated = training(self.config.evaluation, len(self.data.train), self.config.regime)
        return self._accuracies(genomes, sizes, as_evaluated, "score", self.config.score_networks, observe)

    def combined(self, accuracies: Tensor) -> Tensor:
        """Accuracies at several sizes (sizes, networks) as one for each of the seeds, as the objective says."""
        return 1 - self.objective.combine(1 - accuracies)

    def _skill(self, judgement: Judgement) -> float:
        """0..1: its accuracy, or what its loss says where the task is a regression."""
        return self.data.skill_of_loss(judgement.loss) if judgement.accuracy is None else judgement.accuracy

    def _accuracies(
        self,
        genomes: Tensor,
        sizes: Sequence[tuple[int, int]],
        how: Training,
        purpose: str,
        networks: int,
        observe: Callable[[TrainedGroup], None] | None = None,
    ) -> Tensor:
        root = derive_seed(self.config.run_seed, purpose)
        by_size = []
        for width, depth in sizes:
            network = make_network(self.data, self.config.ldnn.architecture, width, depth)
            judged = evaluate_arms(
                self.data,
                network,
                {"mixed": self.mixed(genomes, network)},
                range(networks),
                how,
                root_seed=root,
                split="val",
                observe=observe,
            )
            by_size.append([self._skill(judgement) for judgement in judged])
        return torch.tensor(by_size, dtype=torch.float64)
