"""The runner on a virtual clock: it plays Tune to a plan, loses nothing, and its time is that of arithmetic."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from search.landscape import Point, Replayed
from search.plan import PENALTY, ListPlan, Outcome, Plan, Unit, run_here
from search.schema import Status
from search.search_plan import NothingToSample, SearchPlan
from search.simulator import RESTART_SECONDS, Simulator

OK = Outcome(Status.OK, 0.5)
Event = tuple[float, str, str, int]


def units(count: int) -> list[Unit]:
    return [Unit(f"unit-{i}", payload={"number": i}) for i in range(count)]


def seconds(value: float) -> Callable[[Unit], Replayed]:
    return lambda unit: Replayed(value, OK)


def simulated(plan: Plan, replay: Callable[[Unit], Replayed], **options: Any) -> tuple[Simulator, list[Event]]:
    """A simulator that has run a plan, and what its watch was told, with the virtual moments."""
    simulator = Simulator(replay, **options)
    events: list[Event] = []
    simulator.run(plan, lambda event, unit, outcome: events.append((simulator.now, event, unit.key, unit.attempt)))
    return simulator, events


def search_of(trials: int, wave: int) -> SearchPlan:
    """Two methods, of which neither samples anything."""
    return SearchPlan({"gradient": NothingToSample(), "evolution": NothingToSample()}, trials=trials, wave=wave)


def most_at_once(events: list[Event]) -> int:
    running = most = 0
    for _, event, _, _ in events:
        running += 1 if event == "started" else -1
        most = max(most, running)
    return most


def test_one_worker_does_the_units_of_a_search_in_the_order_of_a_run_here():
    here: list[tuple[str, str]] = []
    run_here(search_of(7, 3), lambda unit: OK, lambda event, unit, outcome: here.append((event, unit.key)))
    _, events = simulated(search_of(7, 3), seconds(2.0), workers=1)
    assert [(event, key) for _, event, key, _ in events] == here
    assert [moment for moment, event, _, _ in events if event == "finished"] == [2.0 * n for n in range(1, 15)]


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (12, 4), (13, 4), (3, 8), (1000, 7)])
def test_equal_units_take_the_time_of_their_rounds(count, workers):
    simulator, events = simulated(ListPlan(units(count)), seconds(2.5), workers=workers)
    rounds = math.ceil(count / workers)
    assert simulator.now == 2.5 * rounds
    assert simulator.utilisation == pytest.approx(count / (workers * rounds))
    assert most_at_once(events) == min(workers, count)
    assert Counter(key for _, event, key, _ in events if event == "finished") == {f"unit-{i}": 1 for i in range(count)}


def test_waves_are_waited_for():
    # One method, waves of 4 on 3 workers: two rounds for each wave, the second of them with a single trial.
    plan = SearchPlan({"gradient": NothingToSample()}, trials=12, wave=4)
    simulator, events = simulated(plan, seconds(1.0), workers=3)
    assert simulator.now == 6.0
    assert plan.done == plan.total == 12
    assert len(events) == 24


@pytest.mark.parametrize("poll", [0.0, 0.75])
def test_idle_workers_take_up_the_next_wave_when_they_ask(poll):
    def replay(unit: Unit) -> Replayed:
        return Replayed(10.0 if unit.payload["number"] == 0 else 1.0, OK)

    plan = SearchPlan({"gradient": NothingToSample()}, trials=4, wave=2)
    simulator, events = simulated(plan, replay, workers=2, poll_seconds=poll)
    # Trials 0 and 1 end at 10 and 1; trial 2 goes at once to the worker that is free at 10, trial 3 to the one that
    # has idled since 1: at 10 if it is told, or else when it next asks, a multiple of 0.75 after 1.
    starts = {key: moment for moment, event, key, _ in events if event == "started"}
    assert starts["gradient-0002"] == 10.0
    assert starts["gradient-0003"] == (10.0 if poll == 0 else 1 + 0.75 * 12)
    assert simulator.now == 11.0 if poll == 0 else starts["gradient-0003"] + 1


def test_a_slow_driver_bounds_the_rate():
    # 0.5 s for each start and many workers: the last of 20 units starts after 10 s.
    simulator, _ = simulated(ListPlan(units(20)), seconds(1.0), workers=100, driver_seconds=0.5)
    assert simulator.now == 20 * 0.5 + 1.0


def test_dead_workers_are_replaced_and_their_trials_tried_again():
    plan, ends, starts = search_of(100, 20), {}, 0

    def watch(event: str, unit: Unit, outcome: Outcome | None) -> None:
        nonlocal starts
        starts += outcome is None
        if outcome is not None:
            ends.setdefault(unit.key, []).append((unit.attempt, outcome.status))

    simulator = Simulator(seconds(60.0), workers=8, deaths_per_hour=30.0, seed=1)
    simulator.run(plan, watch)
    assert plan.done == plan.total == len(ends) == 200
    # A worker dies within a minute with probability 1 - exp(-0.5); 5 standard deviations of a binomial are allowed.
    chance = 1 - math.exp(-0.5)
    assert simulator.deaths == pytest.approx(starts * chance, abs=5 * math.sqrt(starts * chance * (1 - chance)))
    # Each death is followed by another try, unless it was the third; each trial ends well once, or is given up.
    given_up = [key for key, tries in ends.items() if tries[-1] == (2, Status.KILLED)]
    assert given_up
    assert starts == 200 + simulator.deaths - len(given_up)
    assert sum(status is Status.OK for tries in ends.values() for _, status in tries) == 200 - len(given_up)
    assert all([attempt for attempt, _ in tries] == list(range(len(tries))) for tries in ends.values())


def test_a_worker_that_died_is_missed_until_another_one_has_started():
    # A life is of milliseconds here: every try of the only unit is lost, and each takes a new worker.
    plan = ListPlan(units(1), max_retries=2)
    simulator, events = simulated(plan, seconds(1e6), workers=1, deaths_per_hour=3.6e6)
    assert (simulator.deaths, plan.done) == (3, 1)
    starts = [moment for moment, event, _, _ in events if event == "started"]
    assert len(starts) == 3
    assert all(later - earlier >= RESTART_SECONDS for earlier, later in pairwise(starts))
    outcomes: list[Outcome | None] = []
    Simulator(seconds(1e6), workers=1, deaths_per_hour=3.6e6).run(
        ListPlan(units(1), max_retries=0), lambda event, unit, outcome: outcomes.append(outcome)
    )
    assert outcomes[-1] == Outcome(Status.KILLED, PENALTY, "its process died: simulated")


def test_the_same_seed_gives_the_same_history_and_another_one_another():
    def history(seed: int) -> list[Event]:
        return simulated(search_of(40, 8), seconds(60.0), workers=5, deaths_per_hour=10.0, seed=seed)[1]

    assert history(3) == history(3)
    assert history(3) != history(4)


def test_raises_what_the_plan_raises():
    class Broken(ListPlan):
        def finish(self, unit: Unit, outcome: Outcome) -> None:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        Simulator(seconds(1.0), workers=2).run(Broken(units(3)), lambda *_: None)


def test_units_arrive_as_they_would_from_tune():
    payload = {"number": 0, "params": {"width": 3, "base": "sin", "inner_lr": 0.1}}
    seen: list[Unit] = []

    def replay(unit: Unit) -> Replayed:
        seen.append(unit)
        return Replayed(1.0, OK)

    Simulator(replay, workers=1).run(ListPlan([Unit("a", 1, payload)]), lambda *_: None)
    assert seen == [Unit("a", 1, json.loads(json.dumps(payload)))]


def test_a_rule_that_stops_trials_early_is_a_replay_around_another():
    """What a scheduler with thresholds in the payload needs: the curve, and a shorter trial in its place."""
    curve = (Point(0, 10.0, 0.2), Point(5, 50.0, 0.4), Point(9, 90.0, 0.7))

    def stopped(unit: Unit) -> Replayed:
        whole = Replayed(100.0, OK, curve)
        for point in whole.curve:
            if point.accuracy < unit.payload["thresholds"].get(str(point.step), 0.0):
                return replace(whole, seconds=point.seconds, outcome=Outcome(Status.PRUNED, point.accuracy))
        return whole

    plan = ListPlan([Unit("good", payload={"thresholds": {"5": 0.3}}), Unit("bad", payload={"thresholds": {"5": 0.5}})])
    _, events = simulated(plan, stopped, workers=2)
    assert [(moment, key) for moment, event, key, _ in events if event == "finished"] == [
        (50.0, "bad"),
        (100.0, "good"),
    ]


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"workers": 1, "driver_seconds": -1.0}, {"workers": 1, "deaths_per_hour": math.inf}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"workers >= 1 and finite deaths_per_hour, driver_seconds, poll_seconds >= 0"):
        Simulator(seconds(1.0), **options)
