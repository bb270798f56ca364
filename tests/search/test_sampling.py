"""What a search samples depends on seed, number and results: not on workers, order or interruptions."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.config_space import Choices, Range
from search.config_tables import SearchConfig
from search.plan import PENALTY, Outcome, Unit
from search.sampling import distributions, optuna_suggesters
from search.schema import Status
from search.search_plan import Finished, NothingToSample, SamplingChangedError, SearchPlan, Suggester, trial_id

METHODS = ("gradient", "evolution")
SPACE = {
    "inner_lr": {"low": 1e-4, "high": 1.0, "log": True},
    "outer_lr": {"low": 0.01, "high": 0.1},
    "mutation_scale": {"low": 0.1, "high": 0.9, "step": 0.2},
    "width": {"low": 10, "high": 40, "step": 10},
    "base": {"choices": ["relu", "sin", "tanh"]},
}


def suggesters(*, seed: int = 3, startup: int = 4, sampler: str = "tpe", space: Any = None) -> dict[str, Suggester]:
    search = SearchConfig.model_validate(
        {"sampler": sampler, "startup_trials": startup, "space": SPACE if space is None else space}
    )
    return optuna_suggesters(search, methods=METHODS, seed=seed)


def score_of(params: Mapping[str, Any]) -> float:
    """A made-up accuracy: best near an inner learning rate of 0.01, with sin and great width."""
    miss = abs(math.log10(params["inner_lr"]) + 2) / 4
    return 0.8 - 0.4 * miss + 0.1 * (params["base"] == "sin") + params["width"] / 1000


def outcome_of(unit: Unit) -> Outcome:
    """The same outcome in whatever order and attempt a trial is run; some do not end well."""
    if unit.payload["number"] % 5 == 3:
        return Outcome(Status.DIVERGED, PENALTY)
    return Outcome(Status.OK, score_of(unit.payload["params"]))


class Records:
    """What a results store would know: the finished trials, and attempts that were begun."""

    def __init__(self) -> None:
        self.finished: dict[str, Finished] = {}
        self.attempts: dict[str, int] = {}

    def plan(self, *, trials: int, wave: int = 4, **options: Any) -> SearchPlan:
        attempts = {key: count for key, count in self.attempts.items() if key not in self.finished}
        made = suggesters(**options)
        return SearchPlan(made, trials=trials, wave=wave, finished=dict(self.finished), attempts=attempts)

    def publish(self, unit: Unit, outcome: Outcome) -> None:
        assert unit.key not in self.finished, "no trial is run twice"
        self.finished[unit.key] = Finished(unit.payload["params"], outcome)

    def params(self) -> dict[str, Mapping[str, Any]]:
        return {key: trial.params for key, trial in self.finished.items()}


def run(
    plan: SearchPlan, records: Records, *, workers: int = 1, order: random.Random | None = None, kill_after: int = -1
) -> None:
    """Run a plan with some workers, trials ending in any order; after so many of them everything is killed."""
    running: list[Unit] = []
    while kill_after != 0:
        while len(running) < workers and (unit := plan.next_unit()) is not None:
            running.append(unit)
            records.attempts[unit.key] = max(records.attempts.get(unit.key, 0), unit.attempt + 1)
        if not running:
            break
        unit = running.pop(order.randrange(len(running)) if order else 0)
        outcome = outcome_of(unit)
        records.publish(unit, outcome)
        plan.finish(unit, outcome)
        kill_after -= 1


def undisturbed(trials: int, **options: Any) -> Records:
    records = Records()
    run(records.plan(trials=trials, **options), records)
    return records


class TestDistributions:
    def test_follow_the_entries_of_the_method_in_alphabetical_order(self):
        space = SearchConfig.model_validate({"space": SPACE}).space
        assert list(distributions(space, "gradient").items()) == [
            ("base", CategoricalDistribution(("relu", "sin", "tanh"))),
            ("inner_lr", FloatDistribution(1e-4, 1.0, log=True)),
            ("outer_lr", FloatDistribution(0.01, 0.1)),
            ("width", IntDistribution(10, 40, step=10)),
        ]
        assert "mutation_scale" in distributions(space, "evolution")

    def test_end_at_the_last_step_that_fits(self):
        space = {"mutation_scale": Range(low=0.1, high=0.95, step=0.2), "width": Range(low=10, high=35, step=10)}
        assert distributions(space, "evolution") == {
            "mutation_scale": FloatDistribution(0.1, 0.9, step=0.2),
            "width": IntDistribution(10, 30, step=10),
        }

    def test_need_no_more_than_one_choice(self):
        assert distributions({"num_types": Choices(choices=(2,))}, "gradient") == {
            "num_types": CategoricalDistribution((2,))
        }


class TestSampler:
    def test_draws_differ_between_trials_parameters_methods_and_seeds(self):
        space = {"inner_lr": SPACE["inner_lr"], "outer_lr": SPACE["inner_lr"]}
        draws: list[float] = []
        for seed in (1, 2):
            for made in suggesters(seed=seed, sampler="random", space=space).values():
                for number in range(5):
                    draws += (made.suggest(str(number)) or {}).values()
        assert len(draws) == 2 * 5 * (2 + 1)
        assert len(set(draws)) == len(draws)

    def test_tpe_learns_from_history_where_random_does_not(self):
        def late_mean(sampler: str) -> float:
            scores = []
            for seed in range(6):
                records = undisturbed(24, sampler=sampler, seed=seed)
                late = [trial_id(method, number) for method in METHODS for number in range(12, 24)]
                scores += [score_of(records.finished[key].params) for key in late]
            return sum(scores) / len(scores)

        assert late_mean("tpe") > late_mean("random") + 0.05

    def test_tpe_samples_its_startup_trials_as_random_does(self):
        tpe, chance = undisturbed(12, startup=4).params(), undisturbed(12, sampler="random").params()
        same = [tpe[trial_id("gradient", number)] == chance[trial_id("gradient", number)] for number in range(12)]
        assert all(same[:4])
        # Four startup trials, of which one diverged and counts all the same: from the second wave on TPE chooses.
        assert not any(same[4:])


class TestWaves:
    @settings(deadline=None, max_examples=25)
    @given(workers=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
    def test_samples_are_the_same_for_any_number_of_workers_and_any_order_of_ends(self, workers: int, seed: int):
        records = Records()
        run(records.plan(trials=10), records, workers=workers, order=random.Random(seed))
        assert records.finished == undisturbed(10).finished

    @settings(deadline=None, max_examples=25)
    @given(
        kills=st.lists(st.integers(0, 12), max_size=4),
        workers=st.lists(st.integers(1, 5), min_size=5, max_size=5),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_samples_are_the_same_however_often_the_run_is_killed_and_resumed(
        self, kills: list[int], workers: list[int], seed: int
    ):
        records, order = Records(), random.Random(seed)
        for kill, count in zip([*kills, -1], workers, strict=False):
            run(records.plan(trials=10), records, workers=count, order=order, kill_after=kill)
        assert records.finished == undisturbed(10).finished

    def test_an_extended_run_samples_as_a_run_that_was_longer_from_the_start(self):
        records = undisturbed(6)
        run(records.plan(trials=13), records, workers=3)
        assert records.finished == undisturbed(13).finished

    def test_a_trial_that_was_lost_in_an_early_wave_is_run_again_alone(self):
        records = undisturbed(12)
        whole = dict(records.finished)
        del records.finished["gradient-0002"]
        plan = records.plan(trials=12)
        assert (plan.done, plan.total) == (23, 24)
        unit = plan.next_unit()
        assert unit is not None
        assert (unit.key, unit.attempt) == ("gradient-0002", 1)
        records.publish(unit, outcome_of(unit))
        plan.finish(unit, outcome_of(unit))
        assert plan.next_unit() is None
        assert plan.done == 24
        assert records.finished == whole

    def test_methods_take_turns_and_a_wave_waits_for_the_one_before(self):
        plan = Records().plan(trials=4, wave=2)
        first = [plan.next_unit() for _ in range(4)]
        keys = [unit.key for unit in first if unit]
        assert keys == ["gradient-0000", "evolution-0000", "gradient-0001", "evolution-0001"]
        assert plan.next_unit() is None
        for unit in (first[2], first[0]):
            assert unit is not None
            plan.finish(unit, outcome_of(unit))
        following = plan.next_unit()
        assert following is not None
        assert following.key == "gradient-0002"
        assert following.payload.keys() == {"kind", "method", "number", "params"}

    def test_two_thousand_finished_trials_are_taken_up_within_seconds(self):
        records = Records()
        chance = random.Random(0)
        for method in METHODS:
            for number in range(1000):
                own = {"gradient": {"outer_lr": 0.05}, "evolution": {"mutation_scale": 0.3}}[method]
                params = {"inner_lr": 10 ** chance.uniform(-4, 0), "width": 20, "base": "sin", **own}
                records.finished[trial_id(method, number)] = Finished(params, Outcome(Status.OK, chance.random()))
        start = time.monotonic()
        plan = records.plan(trials=1001, wave=8)
        assert plan.done == 2000
        assert time.monotonic() - start < 5


class TestSearchPlan:
    def test_tells_a_finite_penalty_for_trials_that_did_not_end_well(self):
        told: dict[str, Any] = {}

        class Listening(NothingToSample):
            def on_trial_complete(self, trial_id: str, result: Any) -> None:
                told[trial_id] = result

        plan = SearchPlan({"gradient": Listening()}, trials=3, wave=3, max_retries=0)
        units = [plan.next_unit() for _ in range(3)]
        ends = [Outcome(Status.OK, 0.7), Outcome(Status.DIVERGED, 0.1), Outcome(Status.KILLED, PENALTY)]
        for unit, outcome in reversed(list(zip(units, ends, strict=True))):
            assert told == {}
            assert unit is not None
            plan.finish(unit, outcome)
        assert told == {
            "gradient-0000": {"score": 0.7},
            "gradient-0001": {"score": PENALTY},
            "gradient-0002": {"score": PENALTY},
        }
        assert list(told) == sorted(told)

    def test_hands_out_a_killed_trial_again_at_once_with_the_same_params(self):
        plan = Records().plan(trials=4)
        unit = plan.next_unit()
        for attempt in (1, 2):
            assert unit is not None
            plan.finish(unit, Outcome(Status.KILLED, PENALTY))
            again = plan.next_unit()
            assert again is not None
            assert (again.key, again.attempt, again.payload) == (unit.key, attempt, unit.payload)
            unit = again
        assert unit is not None
        plan.finish(unit, Outcome(Status.KILLED, PENALTY))
        assert plan.done == 1
        following = plan.next_unit()
        assert following is not None
        assert following.key == "evolution-0000"

    def test_counts_attempts_on_from_those_recorded(self):
        plan = SearchPlan({"gradient": NothingToSample()}, trials=1, wave=1, attempts={"gradient-0000": 4})
        unit = plan.next_unit()
        assert unit is not None
        assert unit.attempt == 4
        plan.finish(unit, Outcome(Status.KILLED, PENALTY))
        again = plan.next_unit()
        assert again is not None
        assert again.attempt == 5

    def test_names_the_difference_when_a_resumed_search_samples_otherwise(self):
        records = Records()
        run(records.plan(trials=8), records, kill_after=3)
        with pytest.raises(SamplingChangedError, match=r"trial gradient-0000 differs \(base: \w+ stored, \w+ sampled"):
            records.plan(trials=8, seed=5)

    def test_refuses_finished_trials_that_are_not_its_own(self):
        records = undisturbed(4)
        with pytest.raises(ValueError, match=r"with a number below 3, but got evolution-0003, gradient-0003; keep at"):
            records.plan(trials=3)

    def test_refuses_numbers_out_of_range(self):
        with pytest.raises(ValueError, match=r"must hold, but got \(trials=1, wave=0, max_retries=2\)"):
            SearchPlan({}, trials=1, wave=0)

    def test_refuses_the_end_of_a_unit_that_is_not_running(self):
        plan = Records().plan(trials=4)
        with pytest.raises(ValueError, match="gradient-0000 attempt 0 is not running"):
            plan.finish(Unit("gradient-0000"), Outcome(Status.OK, 0.5))

    def test_a_method_without_entries_in_the_space_is_not_sampled(self):
        made = suggesters(space={"mutation_scale": SPACE["mutation_scale"]})
        assert made["gradient"].suggest("x-0") == {}
        assert made["evolution"].suggest("x-0") != {}
