"""What a run and a trial are told, complete and checked, and how one follows from the other.

A value of the wrong type, outside its range, infinite or NaN is refused, and so is a key that nobody reads.
Importing this module is light (no torch, ray or optuna): a wrong recipe is refused before any of them starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from search.config_errors import ConfigError, Problem, Relation, checked
from search.config_judging import CurvatureConfig, EvaluationConfig, RegimeConfig, TrainingConfig
from search.config_keys import shown
from search.config_space import SAMPLED_INTO, Choices, sampled_keys
from search.config_tables import (
    EvolutionConfig,
    GradientConfig,
    InnerConfig,
    LdnnConfig,
    ObjectiveConfig,
    ResourcesConfig,
    SearchConfig,
)
from search.config_tasks import PLACES, Mnist1dConfig, TaskConfig
from search.config_types import Array, Method, Networks, ObjectiveName, Seed, Table, Width
from search.provenance import config_hash


class RunConfig(Table):
    """A whole run: one search and the evaluation of what it finds."""

    name: Annotated[
        str,
        Field(
            pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z",
            json_schema_extra={
                "allowed": "1 to 64 letters, digits, dots, underscores and dashes, a letter or digit first"
            },
        ),
    ]
    """Name of the run and of its folder."""
    description: Annotated[str, Field(max_length=2000)] = ""
    """What the run is for, for people."""
    seed: Seed = 0
    """Everything random is derived from it."""
    method: Literal["gradient", "evolution", "both"] = "both"
    """How sets are searched."""
    task: TaskConfig = Mnist1dConfig()
    """The data."""
    ldnn: LdnnConfig = LdnnConfig()
    """The network in which sets are learned."""
    inner: InnerConfig = InnerConfig()
    """The inner loop."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What makes a set good."""
    gradient: GradientConfig = GradientConfig()
    """The outer loop of the method gradient."""
    evolution: EvolutionConfig = EvolutionConfig()
    """The outer loop of the method evolution."""
    search: SearchConfig = SearchConfig()
    """The trials."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """The test of what was found, across sizes."""
    regime: RegimeConfig = RegimeConfig()
    """What happens while judged networks, and those of scores, are trained."""
    curvature: CurvatureConfig = CurvatureConfig()
    """The Hessian of networks of that test."""
    resources: ResourcesConfig = ResourcesConfig()
    """Where the work is done; changes no result."""

    def _relations(self) -> Iterator[Relation]:
        for index, task in enumerate((self.task, *self.evaluation.tasks)):
            if task.training_rows is not None:
                yield from self.relations_of_rows(task.training_rows, index)
        titles = [task.title for task in (self.task, *self.evaluation.tasks)]
        rule = f"no two tasks have the same label or name ({', '.join(titles)})"
        yield Relation(rule, len(set(titles)) == len(titles), ("task.name", "task.label"))
        most_types, types_key = self._extreme("num_types", max)
        least_width, width_key = self._extreme("width", min)
        if self.objective.widths:
            yield Relation(
                "width is not sampled when the objective names widths",
                "width" not in self.search.space,
                ("search.space.width", "objective.widths"),
            )
            least_width, width_key = min(self.objective.widths), "objective.widths"
        bases = self.search.space.get("base")
        if isinstance(bases, Choices) and "hat" in bases.choices:  # the table ldnn knows its own base only
            rule = "ldnn.table_range > 2 when hat is sampled, whose kinks at 0, 1 and 2 lie within the table"
            yield Relation(rule, self.ldnn.table_range > 2, ("ldnn.table_range", "search.space.base.choices"))
        if strengths := self.search.space.get("repulsion_strength"):
            largest = max(strengths.choices) if isinstance(strengths, Choices) else strengths.high
            yield Relation(
                "regime.repulsion_epochs is given when a repulsion_strength above 0 is sampled",
                bool(self.regime.repulsion_epochs) or not largest,
                ("regime.repulsion_epochs", "search.space.repulsion_strength"),
            )
        measure, estimator = self.objective.measure, self.gradient.estimator
        yield Relation(
            "objective.measure is a loss unless method = 'evolution' or gradient.estimator is es or pes",
            measure != "val_accuracy" or self.method == "evolution" or estimator in ("es", "pes"),
            ("objective.measure", "method", "gradient.estimator"),
        )
        in_pieces = self.method != "evolution" and self.gradient.in_pieces
        yield Relation(
            "objective.relative_to = 'nothing' when outer steps are pieces of an inner loop (pes, or carried)",
            self.objective.relative_to == "nothing" or not in_pieces,
            ("objective.relative_to", "gradient.estimator", "gradient.carried"),
        )
        yield Relation(
            "search.scheduler is not halving when outer steps are pieces of an inner loop (pes, or carried)",
            self.search.scheduler != "halving" or not in_pieces,
            ("search.scheduler", "gradient.estimator", "gradient.carried"),
        )
        if {types_key, width_key} != {"ldnn.num_types", "ldnn.width"}:  # the table ldnn has said that itself
            yield Relation("largest num_types <= smallest width", most_types <= least_width, (types_key, width_key))
        for method, steps in (("gradient", "gradient.outer_steps"), ("evolution", "evolution.generations")):
            if method not in methods(self):
                continue
            if self.search.scheduler != "none":
                least = self.search.reduction**self.search.rungs
                rule = f"search.reduction to the power of search.rungs ({least}) <= {steps}"
                keys = (steps, "search.reduction", "search.rungs")
                yield Relation(rule, least <= planned_steps(self, method), keys)
            if self.search.seeds == "common":
                samples = self.search.trials == 1 or bool(set(sampled_keys(method)) & set(self.search.space))
                rule = f"search.space has a key for {method} when search.seeds = 'common' and search.trials > 1"
                yield Relation(rule, samples, ("search.seeds", "search.space", "search.trials"))

        rule = "largest num_types <= smallest of evaluation.widths"
        yield Relation(rule, most_types <= min(self.evaluation.widths), ("evaluation.widths", types_key))
        yield from self._relations_of_networks()
        names = [one.name for one in self.regimes]
        yield Relation(
            "no name stands twice in regime and evaluation.regimes",
            len(set(names)) == len(names),
            ("regime.name", "evaluation.regimes"),
        )
        last = max((epoch for one in self.regimes for epoch in (*one.repulsion_epochs, *one.snapshots)), default=0)
        rule = "epochs of repulsion and snapshots <= evaluation.epochs"
        yield Relation(rule, last <= self.evaluation.epochs, ("regime", "evaluation.regimes", "evaluation.epochs"))
        if self.search.sampler == "nsga2":
            fewest = min(len(set(sampled_keys(method)) & set(self.search.space)) for method in methods(self))
            rule = "search.space has at least 2 entries of each method for nsga2, which exchanges them between trials"
            yield Relation(rule, fewest >= 2, ("search.sampler", "search.space"))
        if "cross_size_drop" in self.search.objectives:
            rule = "largest num_types <= smallest of search.objective_widths"
            fits = most_types <= min(self.search.objective_widths)
            yield Relation(rule, fits, ("search.objective_widths", types_key))
        if "evolution" in methods(self):
            yield from self._relations_of_evolution(most_types, types_key)

    @property
    def regimes(self) -> tuple[RegimeConfig, ...]:
        """All regimes under which networks are judged."""
        return (self.regime, *self.evaluation.regimes)

    def relations_of_rows(self, rows: int, index: int = 0) -> Iterator[Relation]:
        """What must hold of the rows that networks are trained on, which some tasks know only from their data.

        Args:
            rows: how many there are.
            index: 0 for the run's own task, else its place in ``evaluation.tasks``, from 1.
        """
        if index:
            rule = f"evaluation.batch_size <= rows to train on ({rows}) of evaluation.tasks[{index - 1}]"
            yield Relation(rule, self.evaluation.batch_size <= rows, ("evaluation.batch_size",))
            return
        row_keys = tuple(f"task.{key}" for key in self.task.row_keys)
        for section, size in (("inner", self.inner.batch_size), ("evaluation", self.evaluation.batch_size)):
            rule = f"{section}.batch_size <= rows to train on ({rows})"
            yield Relation(rule, size <= rows, (f"{section}.batch_size", *row_keys))

    def _relations_of_networks(self) -> Iterator[Relation]:
        """Which kinds of network the tasks have inputs for."""
        judged = self.evaluation.architectures or (self.ldnn.architecture,)
        places = [
            ("ldnn.architecture", "ldnn.depth", {self.ldnn.architecture}, self.objective.depths or (self.ldnn.depth,)),
            ("evaluation.architectures", "evaluation.depths", set(judged), self.evaluation.depths),
        ]
        for (key, depth_key, architectures, depths), tasks in zip(
            places, ((self.task,), (self.task, *self.evaluation.tasks)), strict=True
        ):
            fitting = [task.image_size for task in tasks if task.image_size != 0]
            for name in sorted(architectures - {"mlp"}):
                rule = f"{name} is for tasks with images (digits, fashion_mnist, mnist, cifar10)"
                yield Relation(rule, bool(fitting), (key, "task.name"))
                least = min((size for size in fitting if size), default=None)
                if name == "vgg_he" and least:
                    rule = f"2^depth <= height of an image ({least}), which each block of vgg_he halves"
                    yield Relation(rule, 2 ** max(depths) <= least, (depth_key, "task.name"))

    def _relations_of_evolution(self, most_types: int, types_key: str) -> Iterator[Relation]:
        evolution, hidden = self.evolution, self.ldnn.subnet_hidden
        layers = len(hidden) + 1
        yield Relation(
            f"evolution.layer_scales is empty or has one number per layer of the sub-network ({layers})",
            len(evolution.layer_scales) in (0, layers),
            ("evolution.layer_scales", "ldnn.subnet_hidden"),
        )
        if evolution.algorithm == "cma_es":
            weights = most_types * self.ldnn.subnet_weights
            yield Relation(
                f"evolution.population * (weights of a set)² <= 2^27 for cma_es, with {weights} weights in a set "
                "(1 GiB of covariances; sep_cma_es needs none)",
                evolution.population * weights**2 <= 2**27,
                ("evolution.population", "ldnn.subnet_hidden", types_key),
            )

    def _extreme(self, name: str, choose: Callable[[Iterable[int]], int]) -> tuple[int, str]:
        """The largest or smallest value that a whole number of `ldnn` can have in a trial, and the key that says so."""
        entry = self.search.space.get(name)
        if entry is None:
            return getattr(self.ldnn, name), f"ldnn.{name}"
        if isinstance(entry, Choices):
            return choose(entry.choices), f"search.space.{name}.choices"
        value = choose((entry.low, entry.high))
        return value, f"search.space.{name}.{'low' if value == entry.low else 'high'}"


class TrialConfig(Table):
    """One trial, complete: everything that its numbers depend on, and nothing else."""

    trial_id: Annotated[str, Field(pattern=r"\A(gradient|evolution)-[0-9]{4,5}\z")]
    """Method and number, e.g. gradient-0003."""
    number: Annotated[int, Field(ge=0, lt=100_000)]
    """Position in the sequence of its method."""
    method: Method
    """How the set is searched."""
    seed: Seed
    """Seed of the trial, derived from the run's seed, the method and the number."""
    run_seed: Seed
    """Seed of the run; what trials have in common, such as the networks of their scores, is derived from it."""
    task: TaskConfig
    """The data."""
    ldnn: LdnnConfig
    """The network in which the set is learned, with what was sampled."""
    inner: InnerConfig
    """The inner loop, with what was sampled."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What makes a set good."""
    gradient: GradientConfig | None
    """None unless the method is gradient."""
    evolution: EvolutionConfig | None
    """None unless the method is evolution."""
    records: Annotated[int, Field(ge=2, le=1000)]
    """As in SearchConfig."""
    probe_networks: Networks
    """As in SearchConfig."""
    score_networks: Networks
    """As in SearchConfig."""
    objectives: Annotated[tuple[ObjectiveName, ...], Array]
    """As in SearchConfig."""
    objective_widths: Annotated[tuple[Width, ...], Array]
    """As in SearchConfig; empty unless cross_size_drop is an objective."""
    evaluation: TrainingConfig
    """How the fresh networks of the score are trained."""
    regime: RegimeConfig = RegimeConfig()
    """What happens meanwhile, with what was sampled."""
    params: dict[str, int | float | str]
    """What was sampled; it has been put into the fields above already."""
    rungs: Annotated[tuple[Annotated[int, Field(ge=0, le=100_000)], ...], Field(max_length=10), Array] = ()
    """Values of `step` in the table steps at which a scheduler looks at the trial; none without a scheduler."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Neurons per hidden layer of the networks that its sets are tried in."""
        return self.objective.widths or (self.ldnn.width,)

    @property
    def depths(self) -> tuple[int, ...]:
        """Hidden layers of the networks that its sets are tried in."""
        return self.objective.depths or (self.ldnn.depth,)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and depth of each of those networks."""
        return tuple((width, depth) for depth in self.depths for width in self.widths)

    @property
    def outer_steps(self) -> int:
        """Outer steps or generations."""
        if self.gradient is not None:
            return self.gradient.outer_steps
        assert self.evolution is not None  # the configuration has exactly one of the two
        return self.evolution.generations


def methods(run: RunConfig) -> tuple[Method, ...]:
    """The methods that a run searches with, in a fixed order."""
    return ("gradient", "evolution") if run.method == "both" else (run.method,)


def trial_seed(run_seed: int, method: str, number: int) -> int:
    """The seed of a trial: the first 31 bits of the SHA-256 of "run seed/method/number".

    It depends on nothing else, so that a trial has the same numbers in whatever order, place and attempt it is run.
    """
    digest = hashlib.sha256(f"{run_seed}/{method}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def trial_config(run: RunConfig, method: str, number: int, params: Mapping[str, Any]) -> TrialConfig:
    """The configuration of one trial: that of the run, with sampled values in place.

    Args:
        run: the run that the trial belongs to.
        method: one of `methods(run)`.
        number: position in the sequence of that method, from 0.
        params: key of the search space → sampled value; see `sampled_keys`.

    Raises:
        ValueError: the run does not use that method.
        ConfigError: a parameter does not belong to the method, or its value is not allowed.
    """
    if method not in methods(run):
        raise ValueError(f"method must be one of {', '.join(methods(run))} in this run, but got {method!r}")
    source = f"trial {method}-{number:04d}"
    own = sampled_keys(method)
    if not set(params) <= set(own):
        allowed = f"is not sampled for {method}; allowed: {', '.join(own)}"
        raise ConfigError((Problem(key, shown(params[key]), allowed) for key in params if key not in own), source)

    sections = run.model_dump(include={"task", "ldnn", "inner", "objective", "regime", method})
    for key, value in params.items():
        section, field = SAMPLED_INTO[key]
        sections[section][field] = value
    data = {
        "trial_id": f"{method}-{number:04d}",
        "number": number,
        "method": method,
        "seed": trial_seed(run.seed, method, 0 if run.search.seeds == "common" else number),
        "run_seed": run.seed,
        "gradient": None,
        "evolution": None,
        "records": run.search.records,
        "probe_networks": run.search.probe_networks,
        "score_networks": run.search.score_networks,
        "objectives": run.search.objectives,
        "objective_widths": run.search.objective_widths if "cross_size_drop" in run.search.objectives else (),
        "evaluation": run.evaluation.training.model_dump(),
        "params": dict(params),
        "rungs": rung_steps(run, method),
    }
    return checked(TrialConfig, data | sections, source)


_NAMES_OF_A_TRIAL: Final = ("trial_id", "number", "params")


def identity(trial: TrialConfig) -> str:
    """Hash of all that a trial's numbers depend on: two trials with the same identity have the same rows."""
    return config_hash({key: value for key, value in canonical(trial).items() if key not in _NAMES_OF_A_TRIAL})


def planned_steps(run: RunConfig, method: str) -> int:
    """Outer steps or generations of every trial of a method."""
    return run.gradient.outer_steps if method == "gradient" else run.evolution.generations


def rung_steps(run: RunConfig, method: str) -> tuple[int, ...]:
    """The steps whose rows hold what a trial is at its rungs.

    Every outer step or generation costs the same number of inner steps, so that a share of the one is the same share
    of the other.  The row of outer step s holds the set after s updates; that of generation s the best set after
    s + 1 generations.
    """
    search, planned = run.search, planned_steps(run, method)
    if search.scheduler == "none":
        return ()
    done = [planned // search.reduction**left for left in range(search.rungs, 0, -1)]
    return tuple(done) if method == "gradient" else tuple(generations - 1 for generations in done)


def stored_config(stored: Mapping[str, Any], run: object) -> RunConfig:
    """The configuration that a run was made with; what has been added to recipes since has its default.

    Args:
        stored: as the run has it.
        run: its folder, for the words.

    Raises:
        ConfigError: a version of ldnn with other rules has made the run.
    """
    return checked(RunConfig, _as_called_now(stored), f"{run}, which another version of ldnn has made")


def _as_called_now(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration with today's names: `tuned` was per_arm_size, `normalized_arm` a control."""
    evaluation = dict(stored.get("evaluation", {}))
    if evaluation.get("lr_protocol") == "tuned":
        evaluation["lr_protocol"] = "per_arm_size"
    if evaluation.pop("normalized_arm", False):
        evaluation["controls"] = ["mixed-normalized"]
    return {**stored, "evaluation": evaluation}


def stored_trial(text: str, task: TaskConfig | None = None) -> TrialConfig:
    """The configuration in a row of ``trials``; what trials have been told since schema version 1 has its default.

    Args:
        text: the column ``config``.
        task: the run's, which says where the data lies, as rows do not; None leaves that open.

    Raises:
        ValueError: this version of ldnn cannot read it.
    """
    data = {"objectives": ("score",), "objective_widths": ()} | json.loads(text)
    data["task"] = data["task"] | {name: value for name, value in dict(task or ()).items() if name in PLACES}
    return checked(TrialConfig, data, "a trial, which another version of ldnn has run")


def canonical(config: RunConfig | TrialConfig) -> dict[str, Any]:
    """A configuration as JSON writes it, in the order of its fields, with `essential` parts alone.

    This is what is hashed.  It does not say where data lies, see `stored_trial`.
    """
    return essential(config.model_dump(mode="json"))


def essential(config: Mapping[str, Any]) -> dict[str, Any]:
    """What results depend on of a configuration in JSON: all but resources, and where data lies."""
    kept = {key: value for key, value in config.items() if key != "resources"}
    kept["task"] = _without_places(config["task"])
    if "tasks" in (evaluation := config.get("evaluation", {})):
        kept["evaluation"] = {**evaluation, "tasks": [_without_places(task) for task in evaluation["tasks"]]}
    return kept


def _without_places(task: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key not in PLACES}
