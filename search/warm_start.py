"""Warm start: trials of earlier runs that a sampler knows before its first own trial.

They are copied when the run is made, into its ``run.json``: what an earlier run does later, and whether it is still
there, changes nothing.  They are not run again and not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.attempts import counted
from search.config import RunConfig, methods, stored_trial
from search.config_errors import ConfigError, Problem
from search.config_keys import shown
from search.config_space import SAMPLED_INTO, sampled_keys
from search.config_tasks import same_data
from search.location import parse_location
from search.plan import Outcome
from search.run_folder import RunFolder, RunFolderError, open_run
from search.schema import OBJECTIVES, Status
from search.store import StoreError

_LEARNT_FROM: Final = (Status.OK, Status.DIVERGED)
"""How a trial must have ended: other failures say something about machines, and nothing about parameters."""

_LEAST_FOR_CMAES: Final = 10
"""Trials of which the package cmaes still finds a tenth."""

_SCORED_OVER: Final = ("widths", "depths", "over", "spread_weight")
"""What of the objective the score depends on."""


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of an earlier run, as a point of the present search space.

    Attributes:
        run_id: of the earlier run.
        trial_id: in that run.
        method: how it searched.
        params: key of the present space → value.
        status: ok or diverged.
        values: objective → value as stored.
    """

    run_id: str
    trial_id: str
    method: str
    params: Mapping[str, Any]
    status: Status
    values: Mapping[str, float | None]

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return Outcome.of_row({"status": self.status, **self.values})


@dataclass(frozen=True)
class WarmStart:
    """What is taken over from earlier runs.

    Attributes:
        run_ids: of those runs.
        trials: in the order of the runs, methods and numbers.
        left_out: why a trial was left out → how many were.
    """

    run_ids: tuple[str, ...]
    trials: tuple[EarlierTrial, ...]
    left_out: Mapping[str, int]

    def __str__(self) -> str:
        reasons = [f"{count} {reason}" for reason, count in self.left_out.items()]
        rest = f"; left out: {', '.join(reasons)}" if reasons else ""
        return f"{_trials(len(self.trials))} of {', '.join(self.run_ids)} told to the sampler{rest}"

    def as_json(self) -> dict[str, Any]:
        """For ``run.json``; `earlier_trials` reads it back."""
        trials = [
            {
                "run_id": one.run_id,
                "trial_id": one.trial_id,
                "method": one.method,
                "params": dict(one.params),
                "status": str(one.status),
                "values": dict(one.values),
            }
            for one in self.trials
        ]
        return {"runs": list(self.run_ids), "left_out": dict(self.left_out), "trials": trials}


def earlier_trials(stored: Mapping[str, Any] | None) -> tuple[EarlierTrial, ...]:
    """The trials in what `WarmStart.as_json` has written; none for None."""
    trials = [] if stored is None else stored["trials"]
    return tuple(EarlierTrial(**{**one, "status": Status(one["status"])}) for one in trials)


def gather(config: RunConfig) -> WarmStart | None:
    """What a run takes over from the runs that ``search.warm_start`` names; None if it names none.

    A trial is taken if it ended ok or diverged, its task is this run's, its method is one of this run's, its score was
    measured on networks trained as this run's, and it is a point of the present search space: what is sampled now has
    a value there within the bounds, and what is fixed now has the same value there.  With several objectives it also
    needs a value for each of them.

    Raises:
        ConfigError: a folder is no run, its tables cannot be read, or nothing in it can be taken, or too little for
            cmaes.
    """
    if not config.search.warm_start:
        return None
    problems, runs = [], []
    for place in config.search.warm_start:
        try:
            run = open_run(parse_location(place))
            runs.append((run, run.store.read("trials").to_pylist()))
        except (RunFolderError, StoreError) as error:
            problems.append(Problem("search.warm_start", shown(place), str(error).rstrip(".")))
    if problems:
        raise ConfigError(problems)
    taken: list[EarlierTrial] = []
    left_out: Counter[str] = Counter()
    for run, rows in runs:
        for row in sorted(counted(rows), key=lambda row: (row["method"], row["number"])):
            found = _point(config, run, row)
            if isinstance(found, EarlierTrial):
                taken.append(found)
            else:
                left_out[found] += 1
    if not taken:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "they hold no trials"
        rule = f"at least one trial there must fit this search, but none does ({reasons})"
        hint = "Leave warm_start out, or search the same task, network and space as there."
        raise ConfigError([Problem("search.warm_start", shown(config.search.warm_start), rule, hint)])
    _require_enough(config, taken)
    return WarmStart(tuple(run.info.run_id for run, _ in runs), tuple(taken), dict(left_out))


def _require_enough(config: RunConfig, taken: Sequence[EarlierTrial]) -> None:
    """Refuse what cmaes cannot estimate its first distribution from."""
    if config.search.sampler != "cmaes":
        return
    of_method = Counter(one.method for one in taken)
    for method in methods(config):
        sampled = any(key in config.search.space for key in sampled_keys(method))
        if sampled and 0 < of_method[method] < _LEAST_FOR_CMAES:
            rule = (
                f"cmaes begins with the best tenth of earlier trials, so that at least {_LEAST_FOR_CMAES} of {method} "
                f"must fit this search, but {of_method[method]} do"
            )
            hint = "Name runs with more of them, sample with tpe or gp, or leave warm_start out."
            raise ConfigError([Problem("search.warm_start", shown(config.search.warm_start), rule, hint)])


def _point(config: RunConfig, run: RunFolder, row: Mapping[str, Any]) -> EarlierTrial | str:
    """A stored trial as a point of the present space, or why it is none."""
    method, status = row["method"], Status(row["status"])
    if method not in methods(config):
        return "of another method"
    if status not in _LEARNT_FROM or row["config"] is None:
        return "that ended neither ok nor diverged"
    try:
        trial = stored_trial(row["config"])
    except ValueError:
        return "whose configuration this version cannot read"
    if not same_data(trial.task, config.task):
        return "of another task"
    free = {
        field for key, (section, field) in SAMPLED_INTO.items() if section == "regime" and key in config.search.space
    }
    fixed = [one.model_dump(exclude=free) for one in (trial.regime, config.regime)]
    if trial.evaluation != config.evaluation.training or fixed[0] != fixed[1]:
        return "with networks of the score trained otherwise"
    params = {}
    for key in sampled_keys(method):
        section, field = SAMPLED_INTO[key]
        value = getattr(getattr(trial, section), field)
        if key in config.search.space:
            if not config.search.space[key].contains(value):
                return "outside the space"
            params[key] = value
        elif value != getattr(getattr(config, section), field):
            return f"with another {section}.{field}, which is not sampled here"
    if trial.ldnn.depth != config.ldnn.depth:
        return "with another ldnn.depth, which is not sampled here"
    if any(getattr(trial.objective, name) != getattr(config.objective, name) for name in _SCORED_OVER):
        return "with a score over other sizes"
    drops = "cross_size_drop" in config.search.objectives
    if drops and trial.objective_widths != config.search.objective_widths:
        return "without cross_size_drop at these widths"
    values = {name: row[name] for name in OBJECTIVES}
    if status is Status.OK and any(values[name] is None for name in config.search.objectives):
        return "without a value for every objective"
    return EarlierTrial(run.info.run_id, row["trial_id"], method, params, status, values)


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
