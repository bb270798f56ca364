"""Optuna's part of a search: what is sampled, and a sampler whose choices can be repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.config_space import Choices, Range, sampled_keys

# Optuna announces each study on the terminal, which belongs to our progress display.
optuna.logging.set_verbosity(optuna.logging.WARNING)

SAMPLERS: Final = ("tpe", "random")

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

    def __init__(self, name: str, *, seed: int, method: str, startup_trials: int = 10, skipped: int = 0) -> None:
        """Choose how to sample.

        Args:
            name: ``tpe`` learns from the trials before, ``random`` does not.
            seed: of the run.
            method: whose trials are sampled; two methods get independent draws.
            startup_trials: finished trials that ``tpe`` needs before it learns from them.
            skipped: trials of the method that the study does not know; a trial is numbered as if it knew them.

        Raises:
            ValueError: there is no sampler of that name.
        """
        if name not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, but got {name!r}")
        self._name = name
        self._seed = seed
        self._method = method
        self._startup_trials = startup_trials
        self._skipped = skipped
        # One for all trials, which remembers the trials that it has looked through; a fresh one would begin with the
        # first, and that was nearly half of what a sample cost.
        self._space_of = self._fresh(0)
        self._current: tuple[int, BaseSampler] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The parameters that are sampled together."""
        return self._space_of.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Distributions) -> dict[str, Any]:
        """Sample the parameters that are sampled together."""
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one parameter on its own."""
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def _sampler(self, trial: FrozenTrial) -> BaseSampler:
        # The calls for one trial share a sampler, or each of its parameters would get the same first draw.
        if self._current is None or self._current[0] != trial.number:
            self._current = (trial.number, self._fresh(trial.number + self._skipped))
        return self._current[1]

    def _fresh(self, number: int) -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{self._method}/{number}/sampling".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._name == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=self._startup_trials)
