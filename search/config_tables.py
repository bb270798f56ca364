"""The tables of a recipe, a frozen and strict model each, every field documented beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from search.config_errors import Relation
from search.config_space import Space
from search.config_types import (
    AlgorithmName,
    Array,
    BaseName,
    BatchSize,
    Decay,
    Depth,
    EstimatorName,
    LearningRate,
    Momentum,
    MutationScale,
    Networks,
    NumTypes,
    OptimizerName,
    SamplerName,
    Seed,
    Steps,
    Table,
    TaskName,
    UsualName,
    Width,
)


class TaskConfig(Table):
    """The data; one fifth of the samples are test rows, judged once, the others are for training and validation."""

    name: TaskName = "mnist1d"
    """Data, loss and metric."""
    samples: Annotated[int, Field(ge=1000, le=100_000)] = 5000
    """Rows generated in all."""
    data_seed: Seed = 42
    """Seed of the generator; 42 gives the published data."""
    validation_fraction: Annotated[float, Field(ge=0.01, le=0.9)] = 0.2
    """Share of the rows that are not test rows by which things are chosen: learning rates, sets, trials."""

    @property
    def training_rows(self) -> int:
        """Rows that networks are trained on: neither test nor validation rows."""
        learning = int(self.samples * 0.8)  # rounded as the generator of the data rounds
        return learning - round(learning * self.validation_fraction)


class LdnnConfig(Table):
    """The network in which sets are learned, and the activation set itself."""

    num_types: NumTypes = 2
    """K, neuron types in a hidden layer."""
    base: BaseName = "sin"
    """What every sub-network adds to."""
    width: Width = 100
    """Neurons per hidden layer."""
    depth: Depth = 1
    """Hidden layers."""
    subnet_hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=512)], ...], Field(min_length=1, max_length=3), Array
    ] = (50,)
    """Sizes of the sub-network's hidden layers."""
    subnet_scale: Annotated[float, Field(gt=0, le=100)] = 0.2
    """Factor of the sub-network's output before it is added to the base function."""

    def _relations(self) -> Iterator[Relation]:
        yield Relation("num_types <= width", self.num_types <= self.width, ("num_types", "width"))


class InnerConfig(Table):
    """The inner loop: how a classifier is trained while the set is frozen."""

    optimizer: OptimizerName = "rmsprop"
    """rmsprop starts its squared-gradient average at ones, as published."""
    lr: LearningRate = 0.01
    """Learning rate."""
    momentum: Momentum = 0.9
    """Momentum; read by sgd only."""
    decay: Decay = 0.8
    """Decay of the squared-gradient average; read by rmsprop only."""
    steps: Steps = 100
    """T, inner steps of one inner loop."""
    batch_size: BatchSize = 200
    """Rows per inner step."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Half-width of the uniform noise on hidden units during training; never at evaluation."""
    loss_window: Steps = 100
    """The outer loss is the mean training loss of this many last inner steps, or of all if there are fewer."""


class GradientConfig(Table):
    """The outer loop of gradient meta-learning: gradient descent with momentum on the clamped outer gradient."""

    estimator: EstimatorName = "unrolled"
    """How the outer gradient is obtained: through the whole inner loop, through pieces of it, or at fixed weights."""
    truncation: Steps = 20
    """Inner steps of a piece; read by truncated only."""
    outer_steps: Steps = 300
    """Updates of the set."""
    outer_lr: LearningRate = 0.4
    """Learning rate of the outer loop."""
    momentum: Momentum = 0.8
    """Momentum of the outer loop."""
    clamp: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """Every element of the outer gradient is clamped to plus or minus this."""
    classifiers: Networks = 1
    """Fresh classifiers whose outer gradients are averaged in one outer step."""
    shard: Networks = 8
    """Classifiers that are trained together as one shard, the piece of an outer step that one worker does."""


class EvolutionConfig(Table):
    """The outer loop of evolution: a population of genomes, each judged by the training of fresh classifiers."""

    algorithm: AlgorithmName = "genetic"
    """Tournaments, elites, crossover by type and self-adapted Gaussian mutation; or separable CMA-ES."""
    generations: Steps = 50
    """Updates of the population."""
    population: Annotated[int, Field(ge=2, le=4096)] = 16
    """Genomes in a generation."""
    classifiers: Networks = 1
    """Fresh classifiers per genome and generation; the genomes of a generation share initial weights and batches."""
    shard: Annotated[int, Field(ge=1, le=4096)] = 32
    """Genomes that are judged together as one shard, the piece of a generation that one worker does."""
    elites: Annotated[int, Field(ge=0, le=4095)] = 2
    """Best genomes that enter the next generation unchanged; read by genetic only."""
    tournament: Annotated[int, Field(ge=1, le=4096)] = 3
    """Genomes drawn for each choice of a parent, the best of which wins; read by genetic only."""
    mutation_scale: MutationScale = 0.1
    """Initial standard deviation of mutations, in units of the sub-network's weights."""
    crossover_rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that a child takes its types from two parents; read by genetic only."""

    def _relations(self) -> Iterator[Relation]:
        if self.algorithm == "sep_cma_es":
            yield Relation("population >= 4 for sep_cma_es", self.population >= 4, ("population", "algorithm"))
        else:
            yield Relation("elites < population", self.elites < self.population, ("elites", "population"))
            yield Relation("tournament <= population", self.tournament <= self.population, ("tournament", "population"))


class SearchConfig(Table):
    """How many trials there are, what is sampled for them, and what each of them records."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Trials of each method."""
    sampler: SamplerName = "tpe"
    """tpe learns from the trials before; random does not."""
    startup_trials: Annotated[int, Field(ge=0, le=100_000)] = 4
    """Trials of each method that tpe samples at random before it starts to learn."""
    wave: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Trials of each method sampled from the same history; it, not the number of workers, decides the results."""
    space: Space = Field(default_factory=dict)
    """What is sampled: key → {low, high, log, step} or {choices}; keys of the other method are passed over."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a trial whose process died is tried again."""
    records: Annotated[int, Field(ge=2, le=1000)] = 12
    """Outer steps at which curves are recorded and probes are trained, the first and the last among them."""
    probe_networks: Networks = 4
    """Fresh networks trained at each recorded step to measure its validation accuracy."""
    score_networks: Annotated[int, Field(ge=2, le=4096)] = 8
    """Fresh networks whose mean validation accuracy is the score of a trial; two at least give a standard error."""


class TrainingConfig(Table):
    """How a network is trained when a frozen set is judged."""

    optimizer: OptimizerName = "adam"
    """Optimiser of the weights."""
    lr: LearningRate = 0.01
    """Learning rate."""
    momentum: Momentum = 0.9
    """Momentum; read by sgd only."""
    decay: Decay = 0.8
    """Decay of the squared-gradient average; read by rmsprop only."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 15
    """Passes over the training rows."""
    batch_size: BatchSize = 200
    """Rows per inner step."""


class EvaluationConfig(Table):
    """The test across sizes: which sets, at which widths and depths, against which usual activations."""

    best: Annotated[int, Field(ge=0, le=1000)] = 1
    """Best trials of each method that are evaluated after the search; 0 for none."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=100), Array] = (20, 50, 100)
    """Neurons per hidden layer of the evaluated networks."""
    depths: Annotated[tuple[Depth, ...], Field(min_length=1, max_length=3), Array] = (1,)
    """Hidden layers of the evaluated networks."""
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Networks per arm, width and depth; the arms share seeds, so that differences are paired."""
    usual: Annotated[tuple[UsualName, ...], Field(max_length=8), Array] = ("relu", "silu", "tanh", "sin")
    """Activations to compare with."""
    optimizer: OptimizerName = "adam"
    """Optimiser of the weights."""
    lr: LearningRate = 0.01
    """Learning rate."""
    momentum: Momentum = 0.9
    """Momentum; read by sgd only."""
    decay: Decay = 0.8
    """Decay of the squared-gradient average; read by rmsprop only."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 15
    """Passes over the training rows."""
    batch_size: BatchSize = 200
    """Rows per inner step."""
    lr_protocol: Literal["shared"] = "shared"
    """shared: one learning rate for all arms and sizes."""

    @property
    def training(self) -> TrainingConfig:
        """The part of it that says how a network is trained; scores of trials are measured with it too."""
        return TrainingConfig.model_validate({name: getattr(self, name) for name in TrainingConfig.model_fields})

    def _relations(self) -> Iterator[Relation]:
        for name in ("widths", "depths", "usual"):
            values = getattr(self, name)
            yield Relation(f"no value stands twice in {name}", len(set(values)) == len(values), (name,))


class ResourcesConfig(Table):
    """Where the work is done; no result depends on it, so it is no part of a configuration's hash."""

    workers: Annotated[int, Field(ge=0, le=10_000)] = 2
    """Trials at the same time; 0 runs them one after another in this process, without Ray."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of each worker."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """auto takes a CUDA device if there is one."""
    gpus_per_trial: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs booked for a trial; a fraction lets several trials share one."""
    workers_per_trial: Annotated[int, Field(ge=0, le=1000)] = 0
    """Further processes over which each trial spreads its shards; 0, or workers = 0, lets a trial do them itself."""
    gpus_per_worker: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs booked for each of those processes; a fraction lets several share one."""

    def _relations(self) -> Iterator[Relation]:
        gpus = self.gpus_per_trial
        yield Relation(
            "gpus_per_trial is 0 when device = 'cpu'", self.device != "cpu" or gpus == 0, ("gpus_per_trial", "device")
        )
        yield Relation("gpus_per_trial is whole when above 1", gpus <= 1 or gpus == int(gpus), ("gpus_per_trial",))
        spread, own = self.workers_per_trial, self.gpus_per_worker
        yield Relation("gpus_per_worker is whole when above 1", own <= 1 or own == int(own), ("gpus_per_worker",))
        # A trial trains its probes and its score by itself, on the same kind of device as its shards.
        rule = "gpus_per_worker is above 0 exactly when gpus_per_trial and workers_per_trial are"
        keys = ("gpus_per_worker", "gpus_per_trial", "workers_per_trial")
        yield Relation(rule, (own > 0) == (gpus > 0 and spread > 0), keys)
