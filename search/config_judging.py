"""The tables of a recipe that say how found sets are judged: the training, the test across sizes, the curvature."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from search.config_errors import Relation
from search.config_tasks import TaskConfig
from search.config_types import (
    ArchitectureName,
    Array,
    BatchSize,
    ControlName,
    Decay,
    Depth,
    Epoch,
    LearningRate,
    MixingName,
    Momentum,
    OptimizerName,
    Spread,
    Strength,
    Table,
    UsualName,
    Width,
)


class RegimeConfig(Table):
    """What happens while a judged network is trained, beside optimiser and learning rate."""

    name: Annotated[
        str,
        Field(
            pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,39}\z",
            json_schema_extra={"allowed": "1 to 40 letters, digits, dots, underscores and dashes"},
        ),
    ] = "plain"
    """What it is called in tables."""
    schedule: Literal["constant", "step", "cosine", "restarts"] = "constant"
    """How the learning rate changes: not, by a factor gamma, down to floor by a cosine, or so again and again."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Factor of the learning rate every stepsize epochs; read by step only."""
    stepsize: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Epochs between two changes of step, or of the first cycle of restarts; read by these only."""
    growth: Annotated[int, Field(ge=1, le=100)] = 1
    """Factor of the length of a cycle from one to the next; read by restarts only."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Lowest factor of the learning rate; read by cosine and restarts only."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Pull of all weights towards 0, added to the gradient times the weight."""
    repulsion_strength: Strength = 0.0
    """Height s of the hill that pushes a network away from its checkpoints, in units of the loss; 0 for none."""
    repulsion_width: Spread = 0.1
    """Width of the hill, a root mean square distance per parameter; read when there is a strength."""
    repulsion_epochs: Annotated[tuple[Epoch, ...], Field(max_length=100), Array] = ()
    """Epochs after which a checkpoint is stored, from which the network is pushed away from then on."""
    snapshots: Annotated[tuple[Epoch, ...], Field(max_length=100), Array] = ()
    """Epochs after which the network is kept; kept networks are judged together as an ensemble."""

    def _relations(self) -> Iterator[Relation]:
        for name in ("repulsion_epochs", "snapshots"):
            epochs = getattr(self, name)
            yield Relation(f"{name} rise", all(a < b for a, b in pairwise(epochs)), (name,))
        rule = "repulsion_epochs is given when there is a repulsion_strength"
        there = bool(self.repulsion_epochs) or not self.repulsion_strength
        yield Relation(rule, there, ("repulsion_epochs", "repulsion_strength"))


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
    depths: Annotated[tuple[Depth, ...], Field(min_length=1, max_length=20), Array] = (1,)
    """Hidden layers of the evaluated networks; see ldnn.depth."""
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Networks per arm, width and depth; the arms share seeds, so that differences are paired."""
    usual: Annotated[tuple[UsualName, ...], Field(max_length=8), Array] = ("relu", "silu", "tanh", "sin")
    """Activations to compare with."""
    controls: Annotated[tuple[ControlName, ...], Field(max_length=6), Array] = ()
    """Arms that a win of a set is held against, beside its pure types; a set gets those that differ from its mix."""
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
    lr_protocol: Literal["shared", "per_arm_size"] = "shared"
    """shared: lr for all arms and sizes; per_arm_size: for each arm and size what does best on validation rows."""
    lr_search: Literal["grid", "optuna"] = "grid"
    """grid: every one of lrs is tried; optuna: lr_trials of them between the lowest and the highest, the later ones
    where the earlier did well; read by lr_protocol = "per_arm_size" only."""
    lrs: Annotated[tuple[LearningRate, ...], Field(min_length=1, max_length=50), Array] = (1e-3, 3e-3, 1e-2, 3e-2)
    """Learning rates to choose from, or between the ends of which to choose; read by per_arm_size only."""
    lr_trials: Annotated[int, Field(ge=2, le=200)] = 8
    """Learning rates that are tried for each arm and size; read by lr_search = "optuna" only."""
    tuning_seeds: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Networks per arm, size and learning rate by which one is chosen; none of them is judged."""
    architectures: Annotated[tuple[ArchitectureName, ...], Field(max_length=4), Array] = ()
    """Kinds of network that found sets are judged in, at all widths and depths, on those tasks that have inputs for
    it; empty for ldnn.architecture."""
    mixings: Annotated[tuple[MixingName, ...], Field(max_length=3), Array] = ()
    """Where types are told apart in judged networks, each way in turn; empty for ldnn.mixing."""
    regimes: Annotated[tuple[RegimeConfig, ...], Field(max_length=20), Array] = ()
    """Regimes beside the table regime under which all networks are trained and judged as well."""
    tasks: Annotated[tuple[TaskConfig, ...], Field(max_length=10), Array] = ()
    """Further tasks that found sets are judged on; each a table like [task], with the same sizes and training."""
    spectral_bias: bool = False
    """Whether it is measured how soon networks with the arms of a set learn sinusoids of rising frequency."""
    initial_variance: bool = False
    """Whether the variance of what goes into and comes out of every activation is measured before the first step."""

    @property
    def training(self) -> TrainingConfig:
        """The part of it that says how a network is trained; scores of trials are measured with it too."""
        return TrainingConfig.model_validate({name: getattr(self, name) for name in TrainingConfig.model_fields})

    def _relations(self) -> Iterator[Relation]:
        for name in ("widths", "depths", "usual", "controls", "lrs", "architectures", "mixings"):
            values = getattr(self, name)
            yield Relation(f"no value stands twice in {name}", len(set(values)) == len(values), (name,))
        if self.lr_search == "optuna":
            yield Relation("lrs has two values at least for optuna", len(self.lrs) > 1, ("lrs", "lr_search"))


class CurvatureConfig(Table):
    """How the Hessian of judged networks is measured, the Hessian of their training loss after the last inner step."""

    method: Literal["none", "batched", "pyhessian"] = "none"
    """none: not at all; batched: many networks at a time; pyhessian: one after another with the package of that name,
    an independent check."""
    networks: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Networks per arm and size that are measured, those of the first seeds."""
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Training rows that the loss is a mean over, drawn once; all if there are fewer."""
    probes: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Random vectors that trace and density are means over, the same for all networks of a size."""
    lanczos_steps: Annotated[int, Field(ge=2, le=1000)] = 48
    """Products with the Hessian for each of them; more resolve more of the spectrum."""
    eigenvalues: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many of the largest eigenvalues are stored."""
    noise: bool = False
    """Whether the covariance of one row's gradient is measured too, and how it is aligned with the Hessian."""

    def _relations(self) -> Iterator[Relation]:
        fits = self.eigenvalues <= self.lanczos_steps
        yield Relation("eigenvalues <= lanczos_steps", fits, ("eigenvalues", "lanczos_steps"))
