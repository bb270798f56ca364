"""The tables of a recipe that say how sets are searched, a frozen and strict model each, every field documented."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import Field

from search.config_errors import Relation
from search.config_space import Choices, Space
from search.config_types import (
    AlgorithmName,
    ArchitectureName,
    Array,
    BaseName,
    BatchSize,
    Decay,
    Depth,
    EstimatorName,
    LearningRate,
    MixingName,
    Momentum,
    MutationName,
    MutationScale,
    Networks,
    NumTypes,
    ObjectiveName,
    OptimizerName,
    SamplerName,
    SchedulerName,
    Steps,
    Table,
    Texts,
    UsualName,
    Width,
)

MOST_PARTICLES: Final = 65_536
"""Classifiers that an outer step may train at the same time; at width 100 their weights alone take 1.3 GB."""


class LdnnConfig(Table):
    """The network in which sets are learned, and the activation set itself."""

    num_types: NumTypes = 2
    """K, neuron types in a hidden layer."""
    base: BaseName = "sin"
    """What every sub-network adds to."""
    architecture: ArchitectureName = "mlp"
    """Kind of network: fully connected, or VGG-HE, ResNet and MobileNetV2 for images."""
    mixing: MixingName = "within_layer"
    """Where types are told apart: within every layer, from layer to layer, or from block to block of layers."""
    width: Width = 100
    """Neurons per hidden layer; filters of the first block of vgg_he, channels of the first layer of the others."""
    depth: Depth = 1
    """Hidden layers; blocks of vgg_he, n of a resnet with 6n + 2 layers, most repeats of a stage of mobilenet_v2."""
    subnet_hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=512)], ...], Field(min_length=1, max_length=3), Array
    ] = (50,)
    """Sizes of the sub-network's hidden layers."""
    subnet_scale: Annotated[float, Field(gt=0, le=100)] = 0.2
    """Factor of the sub-network's output before it is added to the base function."""
    normalized: bool = False
    """Whether each function gets the gain and offset that give it mean 0 and variance 1 under a standard normal."""
    table_range: Annotated[float, Field(ge=1, le=100)] = 10.0
    """Functions are looked up in tables from minus to plus this, and go on straight outside."""
    table_scale: Annotated[int, Field(ge=4, le=4096)] = 64
    """Cells of these tables per unit, a power of two; twice as many divide the error of a value by 16."""

    @property
    def subnet_weights(self) -> int:
        """P, weights and biases of one sub-network."""
        sizes = (1, *self.subnet_hidden, 1)
        return sum(fan_in * units + units for fan_in, units in pairwise(sizes))

    def _relations(self) -> Iterator[Relation]:
        yield Relation("num_types <= width", self.num_types <= self.width, ("num_types", "width"))
        yield Relation("table_scale is a power of two", self.table_scale.bit_count() == 1, ("table_scale",))
        whole = (self.table_range * self.table_scale).is_integer()
        yield Relation("table_range times table_scale is whole", whole, ("table_range", "table_scale"))
        if self.base == "hat":
            rule = "table_range > 2 for hat, whose kinks at 0, 1 and 2 lie within the table"
            yield Relation(rule, self.table_range > 2, ("table_range", "base"))


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


class ObjectiveConfig(Table):
    """What makes a set good: at which network sizes it is tried, and how what it does there becomes one number."""

    measure: Literal["train_loss", "val_loss", "val_accuracy"] = "train_loss"
    """The outer loss: training loss of the last inner steps, or what the validation rows say after the last one; for a
    regression val_accuracy is its skill, 1 - root mean squared error of standardised targets, at least 0."""
    widths: Annotated[tuple[Width, ...], Field(max_length=20), Array] = ()
    """Neurons per hidden layer of the networks that a set is tried in; empty for ldnn.width alone."""
    depths: Annotated[tuple[Depth, ...], Field(max_length=3), Array] = ()
    """Hidden layers of those networks; empty for ldnn.depth alone."""
    over: Literal["mean", "worst", "mean_minus_spread"] = "mean"
    """How several sizes become one number: their mean, the worst of them, or the mean minus the standard deviation."""
    spread_weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    """How much the standard deviation counts; read by mean_minus_spread only."""
    relative_to: Literal[UsualName, "nothing"] = "nothing"
    """A usual activation whose outer loss at the same size, from the same start, is subtracted; costs its training."""
    closeness_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    """How much the outer loss grows when types are alike; 0 for not at all."""
    closeness_distance: Annotated[float, Field(gt=0, le=100)] = 0.2
    """Distance in function space at which types begin to count as different."""

    def _relations(self) -> Iterator[Relation]:
        for name in ("widths", "depths"):
            values = getattr(self, name)
            yield Relation(f"no value stands twice in {name}", len(set(values)) == len(values), (name,))


class GradientConfig(Table):
    """The outer loop of gradient meta-learning: gradient descent with momentum on the clamped outer gradient."""

    estimator: EstimatorName = "unrolled"
    """How the outer gradient is obtained: through the whole inner loop, through pieces of it, at fixed weights, or from
    differences between perturbed sets, over the whole inner loop (es) or piece by piece (pes)."""
    truncation: Steps = 20
    """Inner steps of a piece; read by truncated and pes only."""
    carried: bool = False
    """Whether an outer step is one piece of an inner loop that goes on in the next, rather than a whole inner loop; for
    truncated only, pes always does so."""
    perturbation: MutationScale = 0.1
    """Standard deviation of perturbations, in units of each weight's initial bound; read by es and pes only."""
    pairs: Annotated[int, Field(ge=1, le=2048)] = 8
    """Antithetic pairs of perturbed sets, each of which trains every classifier; read by es and pes only."""
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

    @property
    def in_pieces(self) -> bool:
        """Whether an outer step is a piece of an inner loop, whose training the next one carries on."""
        return self.estimator == "pes" or self.carried

    def _relations(self) -> Iterator[Relation]:
        rule = "carried is left out unless estimator = 'truncated'"
        yield Relation(rule, not self.carried or self.estimator == "truncated", ("carried", "estimator"))
        if self.estimator in ("es", "pes"):
            rule = f"(2 pairs + 1) classifiers <= {MOST_PARTICLES} for {self.estimator}"
            trained = (2 * self.pairs + 1) * self.classifiers
            yield Relation(rule, trained <= MOST_PARTICLES, ("pairs", "classifiers"))


class EvolutionConfig(Table):
    """The outer loop of evolution: a population of genomes, each judged by the training of fresh classifiers."""

    algorithm: AlgorithmName = "genetic"
    """A genetic algorithm, or a search around a mean: OpenAI's strategy, SNES, separable or full CMA-ES."""
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
    """Initial standard deviation of mutations, in units of the sub-network's weights; see also mutation."""
    layer_scales: Annotated[tuple[Annotated[float, Field(gt=0, le=100)], ...], Field(max_length=4), Array] = ()
    """Factor of mutation_scale for each layer of the sub-network, the output layer last; none for 1 everywhere."""
    mutation: MutationName = "weights"
    """function: mutation_scale is the change of a curve (root mean square under N(0, 1)); read by genetic only."""
    mean_lr: LearningRate = 0.1
    """Adam's learning rate of the mean, in units of the sub-network's weights; read by openai_es only."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Pull of the mean towards 0, beside a gradient made of ranks; read by openai_es only."""
    crossover_rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that a child takes its types from two parents; read by genetic only."""

    def _relations(self) -> Iterator[Relation]:
        if self.algorithm in ("sep_cma_es", "cma_es"):
            yield Relation(f"population >= 4 for {self.algorithm}", self.population >= 4, ("population", "algorithm"))
        elif self.algorithm == "openai_es":  # its candidates are pairs
            yield Relation("population is even for openai_es", self.population % 2 == 0, ("population", "algorithm"))
        elif self.algorithm == "genetic":
            yield Relation("elites < population", self.elites < self.population, ("elites", "population"))
            yield Relation("tournament <= population", self.tournament <= self.population, ("tournament", "population"))


class SearchConfig(Table):
    """How many trials there are, what is sampled for them, and what each of them records."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Trials of each method."""
    sampler: SamplerName = "tpe"
    """tpe, gp, cmaes and nsga2 learn from the trials before; random does not, nor does qmc, which spreads evenly."""
    startup_trials: Annotated[int, Field(ge=0, le=100_000)] = 4
    """Trials of each method sampled at random before learning starts; read by tpe, gp and cmaes only."""
    history: Annotated[int, Field(ge=20, le=100_000)] = 1000
    """Most trials of each method that tpe and gp learn from: when so many are there, only the best and the most
    recent half of them stay, for what a sample costs grows with them."""
    population: Annotated[int, Field(ge=2, le=4096)] = 8
    """Trials of each method that make a generation, after which something is learned; read by cmaes and nsga2 only."""
    objectives: Annotated[tuple[ObjectiveName, ...], Field(min_length=1, max_length=4), Texts] = ("score",)
    """What is optimised; with several, the trials that no other beats in all of them are the Pareto set."""
    objective_widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=20), Array] = (20, 200)
    """Widths besides the trial's own at which cross_size_drop trains as many networks as the score; read by it only."""
    warm_start: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], Field(max_length=20), Texts
    ] = ()
    """Folders of earlier runs, whose trials are told to the sampler before it begins; read when the run is made. cmaes
    begins with the best tenth of them, and so needs ten of a method."""
    wave: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Trials of each method sampled from the same history; it, not the number of workers, decides the results."""
    space: Space = Field(default_factory=dict)
    """What is sampled: key → {low, high, log, step} or {choices}; keys of the other method are passed over."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """How often a trial whose process died is tried again, and a batch of judged networks also when its time was over;
    counted anew when the run is resumed."""
    max_trial_seconds: Annotated[float, Field(ge=0, le=1e8)] = 0.0
    """What a trial may take, with all it goes on from, before it ends with the status timeout; 0 for any time."""
    max_failures: Annotated[int, Field(ge=1, le=100_000)] = 100_000
    """Trials that may fail (failed, killed more than max_retries times, timeout, oom) from one start of the run to the
    next before it is stopped; `ldnn resume` goes on. Diverged and pruned trials are no failures."""
    scheduler: SchedulerName = "none"
    """Which trials may stop early: none; asha, against trials of earlier waves; halving, within a wave."""
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    """One of this many trials goes on at each rung, and each rung is this many times as far as the one before."""
    rungs: Annotated[int, Field(ge=1, le=10)] = 2
    """How often a trial is looked at: when reduction^-rungs, ..., reduction^-1 of its inner steps are spent."""
    seeds: Literal["own", "common"] = "own"
    """own: equal configurations are repeats; common: the trials of a method share a seed, equal ones are run once."""
    records: Annotated[int, Field(ge=2, le=1000)] = 12
    """Outer steps at which curves are recorded and probes are trained, the first and the last among them."""
    probe_networks: Networks = 4
    """Fresh networks trained at each recorded step to measure its validation accuracy."""
    score_networks: Annotated[int, Field(ge=2, le=4096)] = 8
    """Fresh networks whose mean validation accuracy is the score of a trial; two at least give a standard error."""

    def _relations(self) -> Iterator[Relation]:
        if self.scheduler == "halving":
            smallest = self.reduction**self.rungs
            rule = f"reduction to the power of rungs ({smallest}) <= wave for halving"
            yield Relation(rule, smallest <= self.wave, ("wave", "reduction", "rungs"))
            yield Relation("trials is a multiple of wave for halving", self.trials % self.wave == 0, ("trials", "wave"))
        if self.scheduler == "asha":
            earlier = (self.trials - 1) // self.wave * self.wave
            rule = f"reduction <= trials in waves before the last ({earlier}) for asha"
            yield Relation(rule, self.reduction <= earlier, ("trials", "wave", "reduction"))
        rule = "startup_trials <= history / 2"
        yield Relation(rule, 2 * self.startup_trials <= self.history, ("startup_trials", "history"))
        for name in ("objectives", "objective_widths", "warm_start"):
            values = getattr(self, name)
            yield Relation(f"no value stands twice in {name}", len(set(values)) == len(values), (name,))
        # A failed trial has the lowest score of all, and is told apart by it whatever else is optimised.
        yield Relation("'score' is among the objectives", "score" in self.objectives, ("objectives",))
        if self.sampler in ("cmaes", "nsga2"):
            rule = f"population < trials for {self.sampler}, which learns after a whole generation"
            yield Relation(rule, self.population < self.trials, ("population", "trials", "sampler"))
            rule = f"wave <= population for {self.sampler}"
            yield Relation(rule, self.wave <= self.population, ("wave", "population", "sampler"))
        if self.sampler == "cmaes":
            yield Relation("population >= 4 for cmaes", self.population >= 4, ("population", "sampler"))
            rule = "objectives = ['score'] for cmaes; nsga2, tpe and gp can do with several"
            yield Relation(rule, len(self.objectives) == 1, ("objectives", "sampler"))
            named = [key for key, entry in self.space.items() if isinstance(entry, Choices)]
            rule = "every entry of space is a range for cmaes; the other samplers can do with choices"
            yield Relation(rule, not named, (*(f"space.{key}.choices" for key in named), "sampler"))
        rule = "warm_start is left out unless sampler is tpe, gp or cmaes"
        yield Relation(rule, not self.warm_start or self.sampler in ("tpe", "gp", "cmaes"), ("warm_start", "sampler"))


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
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1e6)] = 60.0
    """How often a running trial keeps a checkpoint, from which another attempt goes on; 0 for never."""
    memory_per_trial: Annotated[int, Field(ge=0, le=2**24)] = 0
    """Megabytes (2^20 bytes) that a trial, or a batch of judged networks, may ask for before it ends with the status
    oom; 0 for any number. Of each process: a trial's own, and each worker of its shards. On a CPU only: a GPU's driver
    reserves more addresses than any such limit."""
    max_evaluation_seconds: Annotated[float, Field(ge=0, le=1e8)] = 0.0
    """What a batch of judged networks, or a measurement of them, may take before its worker is ended and it is tried
    again, search.max_retries times; 0 for any time."""

    def _relations(self) -> Iterator[Relation]:
        gpus = self.gpus_per_trial
        rule = "memory_per_trial is 0 unless device = 'cpu'"
        yield Relation(rule, self.device == "cpu" or not self.memory_per_trial, ("memory_per_trial", "device"))
        rule = "gpus_per_trial is above 0 when device = 'cuda' and workers are, or Ray would not know who has which GPU"
        keys = ("gpus_per_trial", "device", "workers")
        yield Relation(rule, self.device != "cuda" or not self.workers or gpus > 0, keys)
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
