"""A scheduler on the virtual clock: what it stops, what that saves, and what a unit of a part of a trial answers."""

from __future__ import annotations

from typing import Any

import pytest

from search.config import RunConfig
from search.landscape import Point, Replayed
from search.legs import ReplayedLegs
from search.plan import PENALTY, Outcome, Unit
from search.schedule import make_scheduler
from search.schema import Status
from search.search_plan import NothingToSample, SearchPlan
from search.simulator import Simulator
from tests.small_runs import tiny_run


def config_of(scheduler: str, **changes: Any) -> RunConfig:
    """Rungs after 2 and 4 of 8 outer steps, and as many generations."""
    search = {"scheduler": scheduler, "reduction": 2, "rungs": 2, "trials": 8, "wave": 4, "space": {}}
    steps = {"gradient": {"outer_steps": 8}, "evolution": {"generations": 8}}
    return tiny_run(**{"method": "gradient", "search": search, **steps, **changes})


def whole(unit: Unit) -> Replayed:
    """Trial n gains (n + 1) points of accuracy in each of 8 outer steps of 10 s; its score takes 20 s more."""
    gain = 0.01 * (unit.payload["number"] + 1)
    curve = tuple(Point(step, 10.0 * step, gain * step) for step in (0, 3, 8))
    return Replayed(100.0, Outcome(Status.OK, 8 * gain, "whole"), curve)


def unit(number: int = 4, **orders: Any) -> Unit:
    return Unit(f"gradient-{number:04d}", 0, {"kind": "trial", "method": "gradient", "number": number} | orders)


def near(value: Any) -> Any:
    return pytest.approx(value, abs=1e-12)


def test_without_a_scheduler_trials_are_whole():
    assert ReplayedLegs(config_of("none"), whole)(unit()) == whole(unit())


def test_a_trial_is_taken_from_rung_to_rung_and_to_its_end():
    replay = ReplayedLegs(config_of("halving"), whole)
    first = replay(unit(until=0))
    second = replay(unit(until=1, accuracies=[0.1]))
    last = replay(unit(accuracies=[0.1, 0.2]))
    assert (first.outcome.paused, first.outcome.status, first.outcome.rungs) == (True, Status.OK, near((0.1,)))
    assert (second.outcome.paused, second.outcome.status, second.outcome.rungs) == (True, Status.OK, near((0.1, 0.2)))
    assert (last.outcome.paused, last.outcome.status, last.outcome.rungs) == (False, Status.OK, near((0.1, 0.2)))
    assert last.outcome.score == 0.4
    # Its parts together take as long as the whole: to steps 2 and 4 at 10 s each, then the rest with the score.
    assert [part.seconds for part in (first, second, last)] == near([20.0, 20.0, 60.0])


def test_a_trial_that_has_lost_takes_no_time():
    lost = ReplayedLegs(config_of("halving"), whole)(unit(until=0, accuracies=[0.1], below=0.2))
    assert (lost.seconds, lost.outcome.paused) == (0.0, False)
    assert (lost.outcome.status, lost.outcome.score, lost.outcome.rungs) == (Status.PRUNED, near(0.1), near((0.1,)))


@pytest.mark.parametrize(
    ("thresholds", "status", "seconds", "rungs"),
    [
        ([None, None], Status.OK, 100.0, (0.1, 0.2)),
        ([0.09, 0.19], Status.OK, 100.0, (0.1, 0.2)),
        ([0.11, 0.19], Status.PRUNED, 20.0, (0.1,)),
        ([None, 0.21], Status.PRUNED, 40.0, (0.1, 0.2)),
    ],
)
def test_a_trial_stops_at_the_first_rung_below_its_threshold(thresholds, status, seconds, rungs):
    found = ReplayedLegs(config_of("asha"), whole)(unit(thresholds=thresholds))
    assert (found.outcome.status, found.seconds, found.outcome.rungs) == (status, near(seconds), near(rungs))
    assert found.outcome.score == near(0.4 if status is Status.OK else rungs[-1])


def test_rungs_of_another_number_of_steps_lie_at_the_same_shares():
    longer = config_of("halving", gradient={"outer_steps": 800})
    assert ReplayedLegs(longer, whole)(unit(until=0)).seconds == near(20.0)


def test_rungs_of_generations_are_the_rows_of_the_generation_before():
    # Generation s is the row after s + 1 generations, the last of 8 is 7: the first rung is at the row of generation 1.
    replay = ReplayedLegs(config_of("halving", method="evolution"), lambda unit: _seven_rows())
    found = replay(Unit("evolution-0000", 0, {"method": "evolution", "number": 0, "until": 0}))
    assert (found.seconds, found.outcome.rungs) == (near(20.0), near((0.2,)))


def _seven_rows() -> Replayed:
    curve = tuple(Point(row, 10.0 * (row + 1), 0.1 * (row + 1)) for row in range(8))
    return Replayed(100.0, Outcome(Status.OK, 0.8), curve)


def test_a_diverged_trial_reaches_no_rung():
    diverged = Replayed(30.0, Outcome(Status.DIVERGED, PENALTY, "as the nearest did"))
    replay = ReplayedLegs(config_of("halving"), lambda unit: diverged)
    assert replay(unit(until=0)) == diverged


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_halving_keeps_the_best_whatever_the_number_of_workers(workers):
    simulator, ended = _simulated("halving", workers)
    # Of trials 0 to 3 the best two go on at 2 steps, the best of them at 4; so of trials 4 to 7.
    assert {number: len(outcome.rungs) for number, outcome in ended.items()} == dict(enumerate([1, 1, 2, 2] * 2))
    assert [number for number, outcome in ended.items() if outcome.status is Status.OK] == [3, 7]
    # In each wave 4 times 20 s to the first rung, 2 times 20 s to the second, and 60 s for the winner.
    assert simulator.busy == near(2 * (4 * 20.0 + 2 * 20.0 + 60.0))
    if workers == 1:
        assert simulator.now == simulator.busy


def test_asha_compares_with_the_waves_before():
    # Later trials are better here, so that none is stopped; backwards all of the second wave are worse.
    simulator, ended = _simulated("asha", 2)
    assert {outcome.status for outcome in ended.values()} == {Status.OK}
    assert simulator.busy == near(800.0)

    def backwards(one: Unit) -> Replayed:
        return whole(Unit(one.key, one.attempt, {**one.payload, "number": 7 - one.payload["number"]}))

    simulator, ended = _simulated("asha", 2, backwards)
    assert [n for n, outcome in sorted(ended.items()) if outcome.status is Status.PRUNED] == [4, 5, 6, 7]
    assert simulator.busy == near(4 * 100.0 + 4 * 20.0)


def _simulated(scheduler: str, workers: int, replay: Any = whole) -> tuple[Simulator, dict[int, Outcome]]:
    config, ended = config_of(scheduler), {}

    def watch(event: str, unit: Unit, outcome: Outcome | None) -> None:
        if outcome is not None and not outcome.paused:
            ended[unit.payload["number"]] = outcome

    plan = SearchPlan(
        {"gradient": NothingToSample()}, trials=8, wave=4, scheduler=lambda: make_scheduler(config.search)
    )
    simulator = Simulator(ReplayedLegs(config, replay), workers=workers)
    simulator.run(plan, watch)
    assert plan.done == plan.total == len(ended) == 8
    return simulator, ended
