"""Optuna's part of a search: what is sampled, and samplers whose choices can be repeated."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, create_trial

from search.config_space import Choices, Range, sampled_keys
from search.extension import REPLAYED, completed
from search.history import History, Stage
from search.objectives import Teller
from search.schema import OBJECTIVES
from search.search_plan import NothingToSample, Suggester, number_of

if TYPE_CHECKING:
    from search.config import RunConfig
    from search.config_tables import SearchConfig
    from search.warm_start import EarlierTrial

# Optuna speaks of studies and slow paths on the terminal, which belongs to our progress display.
optuna.logging.set_verbosity(optuna.logging.ERROR)

_DIRECTIONS: Final = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}

Distributions: TypeAlias = dict[str, BaseDistribution]


def distributions(space: Mapping[str, Range[Any] | Choices[Any]], method: str) -> Distributions:
    """What Optuna samples for a method: the entries of the space that apply to it.

    They stand in alphabetical order, because random draws follow it: the order of a recipe's lines must not
    change the samples.

    Raises:
        ValueError: there is no such method.
    """
    return {key: _distribution(space[key]) for key in sorted(sampled_keys(method)) if key in space}


def _distribution(entry: Range[Any] | Choices[Any]) -> BaseDistribution:
    if isinstance(entry, Choices):
        return CategoricalDistribution(entry.choices)
    if isinstance(entry.low, int) and isinstance(entry.high, int):
        step = 1 if entry.step is None else entry.step
        return IntDistribution(entry.low, entry.high - (entry.high - entry.low) % step, log=entry.log, step=step)
    high = entry.high
    if entry.step is not None:
        # In decimals, as Optuna does it: the highest value that steps from `low` reach, which it would warn about.
        low, top, step = (Decimal(str(value)) for value in (entry.low, entry.high, entry.step))
        high = float(low + (top - low) // step * step)
    return FloatDistribution(entry.low, high, log=entry.log, step=entry.step)


class SeededSampler(BaseSampler):
    """Samples each trial with a fresh sampler of its own, seeded from (seed, method, number of the trial).

    An Optuna sampler keeps one random generator for all its trials, which a resumed study cannot restore.  Here
    the parameters of a trial depend on nothing but the seed, the method, its number, and the trials before it
    as the study knows them; so a study rebuilt from stored results samples as if it had never been interrupted.
    """

    def __init__(
        self,
        search: SearchConfig,
        space: Distributions,
        *,
        seed: int,
        method: str,
        source: Sequence[FrozenTrial] = (),
    ) -> None:
        """Choose how to sample.

        Args:
            search: which sampler, and how it is set; trials of earlier runs count among those sampled at random.
            space: all that is sampled.
            seed: of the run.
            method: whose trials are sampled; two methods get independent draws.
            source: trials of earlier runs that cmaes estimates its first distribution from.
        """
        self._search = search
        # What a sampler cannot choose from is left to Optuna, which takes the only value there is.
        self._free = {name: one for name, one in space.items() if not one.single()}
        self._seed = seed
        self._method = method
        self._source = list(source)
        # One for all trials, which remembers the trials that it has looked through; a fresh one would begin with the
        # first, and that was nearly half of what a sample of tpe cost.
        self._space_of = self._fresh(0)
        self._number, self._current = 0, self._space_of

    def begin(self, number: int) -> None:
        """The next trial that is sampled is the run's of that number, whatever the study knows of those before."""
        # The calls for one trial share a sampler, or each of its parameters would get the same first draw.
        self._number, self._current = number, self._fresh(number)

    @property
    def replays(self) -> bool:
        """Whether a study is rebuilt by sampling its trials again, and not by their parameters and values alone."""
        return self._search.sampler in REPLAYED

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The parameters that are sampled together."""
        if self._search.sampler in ("tpe", "random"):
            return self._space_of.infer_relative_search_space(study, trial)
        # The others would look for it in finished trials, and sample the first wave one by one at random.
        return self._free

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Distributions) -> dict[str, Any]:
        """Sample the parameters that are sampled together."""
        if not search_space:
            return {}
        if self._search.sampler == "qmc" and (combined := _combinations(search_space)) is not None:
            return combined.at(self._derived("sequence") + self._number)
        return self._current.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one parameter on its own."""
        return self._current.sample_independent(study, trial, param_name, param_distribution)

    def _fresh(self, number: int) -> BaseSampler:
        with warnings.catch_warnings():
            # Said of the QMC sampler and of CMA-ES's start from earlier trials, whose interfaces may change: the
            # version of Optuna is pinned, and another one that samples otherwise is noticed when a run is resumed.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._made(self._derived(str(number)))

    def _made(self, seed: int) -> BaseSampler:
        startup, population = self._search.startup_trials, self._search.population
        match self._search.sampler:
            case "random":
                return RandomSampler(seed=seed)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=population)
            case "qmc":
                # All trials of a method are points of one scrambled Sobol sequence, which therefore has one seed.
                return QMCSampler(qmc_type="sobol", scramble=True, seed=self._derived("sequence"))
            case "cmaes":
                return CmaEsSampler(
                    seed=seed,
                    n_startup_trials=max(0, startup - len(self._source)),
                    popsize=population,
                    source_trials=self._source or None,
                    warn_independent_sampling=False,
                )
        return TPESampler(seed=seed, n_startup_trials=startup)

    def _derived(self, what: str) -> int:
        digest = hashlib.sha256(f"{self._seed}/{self._method}/{what}/sampling".encode()).digest()
        return int.from_bytes(digest[:4], "big")


@dataclass(frozen=True)
class _Combinations:
    """All combinations of choices in an order that passes through each once before any comes again.

    A Sobol sequence knows no choices: of six and two it leaves out a few of the twelve combinations in twelve trials.
    The stride is coprime to their number and near its golden section, so that a part of them is spread out too.
    """

    choices: Mapping[str, Sequence[Any]]

    def at(self, place: int) -> dict[str, Any]:
        number = math.prod(map(len, self.choices.values()))
        stride = next(one for one in count(round(number * (math.sqrt(5) - 1) / 2)) if math.gcd(one, number) == 1)
        left = place * stride % number
        found = {}
        for key, values in self.choices.items():
            left, index = divmod(left, len(values))
            found[key] = values[index]
        return found


def _combinations(space: Distributions) -> _Combinations | None:
    """Those of a space of choices alone."""
    found = {key: one.choices for key, one in space.items() if isinstance(one, CategoricalDistribution)}
    return _Combinations(found) if len(found) == len(space) else None


class OptunaSuggester:
    """Samples the trials of one method by an Optuna study of its own, in memory.

    Optuna's own state is never stored: a resumed search rebuilds the study from the results store.

    Args:
        space: what is sampled, not empty.
        search: objectives, which sampler, and how it is set.
        seed: of the run.
        method: whose trials are sampled.
        earlier: trials of earlier runs, known before the first of this one.
    """

    def __init__(
        self,
        space: Distributions,
        search: SearchConfig,
        *,
        seed: int,
        method: str,
        earlier: Sequence[EarlierTrial] = (),
    ) -> None:
        self._space = space
        self._objectives = search.objectives
        told = Teller(search.objectives).told([one.outcome for one in earlier])
        known = [self._finished(one.params, values) for one, values in zip(earlier, told, strict=True)]
        # CMA-ES learns from nothing but its own generations, so it takes earlier trials as a start.
        source, before = (known, []) if search.sampler == "cmaes" else ([], known)
        self._sampler = SeededSampler(search, space, seed=seed, method=method, source=source)
        directions = [_DIRECTIONS[OBJECTIVES[name]] for name in self._objectives]
        self._study = optuna.create_study(directions=directions, sampler=self._sampler)
        self._study.add_trials(before)
        self._open: dict[str, Trial] = {}

    @property
    def replays(self) -> bool:
        """Whether finished trials must be sampled again to be learnt from."""
        return self._sampler.replays

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Sample parameters for the next trial."""
        self._sampler.begin(number_of(trial_id))
        self._open[trial_id] = trial = self._study.ask(fixed_distributions=self._space)
        return dict(trial.params)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Learn how good a trial was."""
        self._study.tell(self._open.pop(trial_id), [result[name] for name in self._objectives])

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        """Learn of a trial that was sampled and finished before."""
        self._study.add_trial(self._finished(parameters, result))

    def _finished(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> FrozenTrial:
        values = [result[name] for name in self._objectives]
        return create_trial(values=values, params=dict(parameters), distributions=self._space)


def optuna_suggesters(
    search: SearchConfig,
    *,
    methods: Sequence[str],
    seed: int,
    earlier: Sequence[EarlierTrial] = (),
    wider: Sequence[tuple[int, RunConfig]] = (),
) -> dict[str, Suggester]:
    """What samples the trials of each method.

    Args:
        search: search space, sampler and objectives.
        methods: of the run.
        seed: of the run.
        earlier: trials of earlier runs by which the samplers are warmed; each for its own method.
        wider: from which trial on another space is sampled from, and the configuration that has it; in their order.
    """

    def suggester(method: str, entries: Mapping[str, Range[Any] | Choices[Any]], config: RunConfig | None) -> Suggester:
        if not (space := distributions(entries, method)):
            return NothingToSample()
        own = [one for one in earlier if one.method == method]
        if config is not None:
            own = [replace(one, params=completed(config, method, one.params)) for one in own]
        return OptunaSuggester(space, search, seed=seed, method=method, earlier=own)

    def made(method: str) -> Suggester:
        # What is sampled again to be learnt from can neither be forgotten nor told as a point of another space.
        if search.sampler in REPLAYED:
            return suggester(method, search.space, None)
        stages = [Stage(0, partial(suggester, method, search.space, None), dict)]
        for number, config in wider:
            make = partial(suggester, method, config.search.space, config)
            stages.append(Stage(number, make, partial(completed, config, method)))
        return History(stages, limit=search.history)

    return {method: made(method) for method in methods}


_SPREAD: Final = (1 / 2, 1 / 6, 5 / 6)
"""Where between the ends the first learning rates lie, on a logarithmic scale."""


class RateSampler:
    """Learning rates between two ends, one after another: three evenly spread, then by TPE where earlier ones did well.

    Args:
        low: the lowest.
        high: the highest.
        seed: of all draws; with equal answers it asks for the same rates.
    """

    def __init__(self, low: float, high: float, *, seed: int) -> None:
        self._space: Distributions = {"lr": FloatDistribution(low, high, log=True)}
        sampler = TPESampler(seed=seed % 2**32, n_startup_trials=len(_SPREAD))
        self._study = optuna.create_study(direction=StudyDirection.MAXIMIZE, sampler=sampler)
        for share in _SPREAD:
            self._study.enqueue_trial({"lr": low * (high / low) ** share})
        self._open: Trial | None = None

    def ask(self) -> float:
        """The next learning rate."""
        self._open = self._study.ask(fixed_distributions=self._space)
        rate: float = self._open.params["lr"]
        return rate

    def tell(self, goodness: float) -> None:
        """How good the last one was; minus infinity when nothing came of it.

        Raises:
            ValueError: none was asked for.
        """
        if self._open is None:
            raise ValueError("a learning rate must be asked for before its goodness is told, but none is open")
        self._study.tell(self._open, goodness)
        self._open = None
