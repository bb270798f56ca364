"""A sampler that learns from a bounded number of trials: what it keeps, and that a search stays repeatable."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from search.config import RunConfig
from search.config_errors import ConfigError, checked
from search.history import History, Stage
from search.plan import Outcome, Unit
from search.sampling import optuna_suggesters
from search.schema import Status
from search.search_plan import METRIC, Finished, SearchPlan
from tests.search.test_sampling import SPACE, score_of


class Listening:
    """A suggester that only remembers what it was told."""

    replays = False

    def __init__(self, made: list[Listening]) -> None:
        self.told: list[float] = []
        self.points: list[Mapping[str, Any]] = []
        made.append(self)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"x": trial_id}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        self.told.append(result[METRIC])

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        self.told.append(result[METRIC])
        self.points.append(parameters)


def learnt(values: list[float], *, limit: int, live: int = 0) -> list[Listening]:
    """Suggesters made while these values are told, the last `live` of them of trials that were suggested."""
    made: list[Listening] = []
    history = History([Stage(0, lambda: Listening(made), dict)], limit=limit)
    for number, value in enumerate(values):
        if number >= len(values) - live:
            history.suggest(str(number))
            history.on_trial_complete(str(number), {METRIC: value})
        else:
            history.add_evaluated_point({"x": number}, {METRIC: value})
    history.suggest(str(len(values)))
    return made


class TestBoundedHistory:
    def test_forgets_nothing_below_its_limit(self):
        (only,) = learnt([0.1, 0.2, 0.3], limit=20, live=1)
        assert only.told == [0.1, 0.2, 0.3]

    def test_keeps_the_best_and_the_most_recent_in_their_order(self):
        # Of a limit of 20, half stay: the 2 best, wherever they stand, and the 8 last of the others.
        values = [0.0] * 20
        values[3], values[5], values[17] = 0.9, 0.8, 0.5
        made_anew = learnt(values, limit=20)[-1]
        assert made_anew.told == [0.9, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]

    def test_knows_the_same_whether_trials_were_run_now_or_before(self):
        values = [random.Random(0).random() for _ in range(97)]
        assert learnt(values, limit=30)[-1].told == learnt(values, limit=30, live=97)[-1].told

    def test_never_knows_more_than_its_limit(self):
        made = learnt([0.01 * n for n in range(200)], limit=30, live=200)
        assert max(len(one.told) for one in made) <= 30
        last = made[-1]
        assert 1.99 in last.told

    def test_a_wider_space_knows_earlier_trials_as_its_points_and_an_earlier_one_no_later_trial(self):
        made: list[Listening] = []
        first = Stage(0, lambda: Listening(made), dict)
        wider = Stage(2, lambda: Listening(made), lambda params: {"y": 7, **params})
        history = History([first, wider], limit=20)
        for number in range(2):
            history.suggest(f"gradient-{number:04d}")
            history.on_trial_complete(f"gradient-{number:04d}", {METRIC: 0.1})
        # A wave of the wider space that is there already: the first suggester has no such points.
        history.add_evaluated_point({"x": 2, "y": 3}, {METRIC: 0.2})
        history.suggest("gradient-0003")
        assert made[0].points == []
        assert made[1].points == [{"x": f"gradient-{n:04d}", "y": 7} for n in range(2)] + [{"x": 2, "y": 3}]


def plan_of(history: int, finished: dict[str, Finished] | None = None) -> SearchPlan:
    search = {"space": SPACE, "history": history, "startup_trials": 4, "trials": 70, "wave": 5}
    config = checked(RunConfig, {"name": "test", "method": "gradient", "search": search}).search
    made = optuna_suggesters(config, methods=("gradient",), seed=0)
    return SearchPlan(made, trials=config.trials, wave=config.wave, finished=finished)


def sampled(plan: SearchPlan, *, stop_after: int = 1000) -> dict[str, Finished]:
    """Trials of a plan that is run one by one, their ends in another order than their beginnings."""
    found: dict[str, Finished] = {}
    running: list[Unit] = []
    while len(found) < stop_after:
        while len(running) < 3 and (unit := plan.next_unit()) is not None:
            running.append(unit)
        if not running:
            break
        unit = running.pop()
        score = score_of(unit.payload["params"])
        found[unit.key] = Finished(unit.payload["params"], Outcome(Status.OK, score))
        plan.finish(unit, Outcome(Status.OK, score))
    return found


def test_a_search_that_forgets_samples_the_same_after_an_interruption():
    undisturbed = sampled(plan_of(20))
    before = sampled(plan_of(20), stop_after=43)
    after = sampled(plan_of(20, before))
    assert len(before) == 43
    assert before | after == undisturbed


def test_a_search_within_its_limit_samples_as_one_without():
    # 70 trials: a limit of 71 is never reached, and one of 20 is.
    assert sampled(plan_of(71)) == sampled(plan_of(100_000))
    assert sampled(plan_of(20)) != sampled(plan_of(71))


def test_the_trials_at_random_must_fit_into_what_is_kept():
    with pytest.raises(ConfigError, match=r"startup_trials <= history / 2"):
        checked(RunConfig, {"name": "test", "search": {"history": 20, "startup_trials": 11}})
