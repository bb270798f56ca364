"""From a trial's configuration to the objects of the core: the one place where the two vocabularies meet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ldnn_core.activations import BankActivation, TableBank, mixed_functions
from ldnn_core.evaluation import Training, evaluate_arms
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import make_optimizer
from ldnn_core.randomness import derive_seed, generator
from ldnn_core.subnetwork import ActivationSpec
from ldnn_core.tasks import TASKS, TaskData, cache_folder
from ldnn_core.training import Batches, InnerProblem, shuffled_rows
from search.config import LdnnConfig, TaskConfig, TrainingConfig, TrialConfig


@lru_cache(maxsize=4)
def load_task(config: TaskConfig, device: str) -> TaskData:
    """The data of a task on a device, kept for the life of the process."""
    settings = config.model_dump(exclude={"name"})
    return TASKS[config.name](**settings).load(cache_folder()).to(device)


def activation_spec(ldnn: LdnnConfig) -> ActivationSpec:
    """What all sets of a trial share."""
    return ActivationSpec(ldnn.base, ldnn.num_types, ldnn.subnet_hidden, ldnn.subnet_scale)


def training(config: TrainingConfig, train_rows: int) -> Training:
    """How evaluated networks are trained on that many rows."""
    optimizer = make_optimizer(config.optimizer, momentum=config.momentum, decay=config.decay)
    steps = config.epochs * (train_rows // config.batch_size)
    return Training(optimizer, config.lr, steps, config.batch_size)


@dataclass(frozen=True)
class Setting:
    """A trial's task, network and set, ready to run.

    Attributes:
        config: of the trial.
        data: its task on its device.
        spec: what its sets share.
        problem: its inner problem.
    """

    config: TrialConfig
    data: TaskData
    spec: ActivationSpec
    problem: InnerProblem

    @staticmethod
    def of(config: TrialConfig, device: str) -> Setting:
        """The setting of a trial on a device."""
        data = load_task(config.task, device)
        inner = config.inner
        network = MlpSpec(data.inputs, (config.ldnn.width,) * config.ldnn.depth, data.outputs, data.loss)
        optimizer = make_optimizer(inner.optimizer, momentum=inner.momentum, decay=inner.decay)
        return Setting(config, data, activation_spec(config.ldnn), InnerProblem(network, optimizer, inner.lr))

    @property
    def device(self) -> torch.device:
        """Where the data lies."""
        return self.data.train.x.device

    def classifiers(self, outer_step: int, count: int, first: int = 0) -> tuple[Tensor, Batches]:
        """Fresh classifiers (count, Θ) and their inner loops' batches, different at every outer step.

        Args:
            outer_step: outer step or generation.
            count: how many.
            first: the number of the first, for a shard of the outer step's classifiers.
        """
        seed, inner = self.config.seed, self.config.inner
        index = [(outer_step, c) for c in range(first, first + count)]
        parameters = self.problem.network.initial_parameters([generator(seed, "classifier", *i) for i in index])
        sources = [generator(seed, "batches", *i) for i in index]
        rows = shuffled_rows(len(self.data.train), inner.batch_size, inner.steps, sources).to(self.device)
        noise_seeds = tuple(derive_seed(seed, "noise", *i) for i in index)
        batches = Batches(self.data.train.x, self.data.train.y, rows, noise=inner.noise, noise_seeds=noise_seeds)
        return parameters.to(self.device), batches.repeated(1)

    def mixed(self, genomes: Tensor) -> BankActivation:
        """The set (K, P) spread over every hidden layer."""
        bank = TableBank(self.spec, genomes.unsqueeze(0).to(self.device))
        return BankActivation(bank, mixed_functions(self.problem.network.hidden, self.spec.num_types))

    def probe(self, genomes: Tensor) -> float:
        """Mean validation accuracy of fresh networks trained by the inner loop, without noise.

        All probes of a run use the same networks, so that sets, steps and methods can be compared.
        """
        inner = self.config.inner
        as_inner = Training(self.problem.optimizer, inner.lr, inner.steps, inner.batch_size)
        accuracies = self._accuracies(genomes, as_inner, "probe", self.config.probe_networks)
        return sum(accuracies) / len(accuracies)

    def score(self, genomes: Tensor) -> tuple[float, float]:
        """Mean and standard error of the validation accuracy of networks trained as in the evaluation."""
        as_evaluated = training(self.config.evaluation, len(self.data.train))
        networks = self.config.score_networks
        accuracies = torch.tensor(self._accuracies(genomes, as_evaluated, "score", networks), dtype=torch.float64)
        return float(accuracies.mean()), float(accuracies.std() / len(accuracies) ** 0.5)

    def _accuracies(self, genomes: Tensor, how: Training, purpose: str, networks: int) -> list[float]:
        root = derive_seed(self.config.run_seed, purpose)
        arms = {"mixed": self.mixed(genomes)}
        hidden = self.problem.network.hidden
        judged = evaluate_arms(self.data, hidden, arms, range(networks), how, root_seed=root, split="val")
        return [judgement.accuracy for judgement in judged]
