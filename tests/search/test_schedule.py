"""Schedulers decide from accuracies and the order of trials alone, as published; and plans obey them."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search.config import RunConfig, trial_config
from search.config_tables import SearchConfig
from search.copies import Copies
from search.plan import PENALTY, Outcome, Unit
from search.schedule import Asha, Halving, RunAll, Scheduler, make_scheduler, threshold
from search.schema import Status
from search.search_plan import Finished, SearchPlan, trial_id

accuracies = st.lists(st.integers(0, 40).map(lambda hits: hits / 40), min_size=1, max_size=30)


def ray_scheduler(reduction: int, rungs: int) -> AsyncHyperBandScheduler:
    """Ray's, with rungs at 1, reduction, reduction², ..."""
    return AsyncHyperBandScheduler(
        metric="accuracy",
        mode="max",
        grace_period=1,
        reduction_factor=reduction,
        max_t=reduction ** (rungs - 1),
        stop_last_trials=False,
    )


def decision(ray: AsyncHyperBandScheduler, name: str, time: int, accuracy: float) -> str:
    trial: Any = SimpleNamespace(trial_id=name)
    said: str = ray.on_trial_result(None, trial, {"training_iteration": time, "accuracy": accuracy})
    return said


class TestAshaAgainstRay:
    @given(accuracies, st.integers(2, 5))
    @settings(deadline=None)
    def test_a_cutoff_is_the_same_for_the_same_accuracies(self, recorded: list[float], reduction: int):
        bracket = ray_scheduler(reduction, 1)._brackets[0]
        expected = bracket.cutoff(dict(enumerate(recorded)))
        found = threshold(recorded, reduction)
        assert found == (None if len(recorded) < reduction else expected)

    @pytest.mark.parametrize("reduction", [2, 3, 4])
    def test_a_trial_stops_where_ray_stops_it_knowing_the_same_trials(self, reduction: int):
        """Waves of one trial: then Ray, run trial after trial, knows exactly those of earlier waves."""
        rungs, draw = 3, random.Random(reduction)
        ours, ray = Asha(rungs, reduction), ray_scheduler(reduction, rungs)
        stops = []
        for number in range(60):
            name = f"t{number}"
            trial: Any = SimpleNamespace(trial_id=name)
            thresholds = ours.begin([name])[name]["thresholds"]
            ray.on_trial_add(None, trial)  # type: ignore[arg-type]
            reached = []
            for rung in range(rungs):
                reached.append(draw.randrange(20) / 20)
                stops_here = thresholds[rung] is not None and reached[-1] < thresholds[rung]
                said = decision(ray, name, reduction**rung, reached[-1])
                if thresholds[rung] is None:
                    continue  # Ray compares with fewer than 1/η of a trial too
                assert stops_here == (said == TrialScheduler.STOP)
                if stops_here:
                    stops.append(rung)
                    break
            assert ours.over(name, reached) == {}
        assert set(stops) == set(range(rungs))

    def test_ray_decides_otherwise_in_another_order_and_we_do_not(self):
        accuracy = dict(zip("abcdefgh", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), strict=True))

        def stopped_by_ray(order: str) -> set[str]:
            ray = ray_scheduler(2, 1)
            for name in order:
                ray.on_trial_add(None, SimpleNamespace(trial_id=name))  # type: ignore[arg-type]
            return {name for name in order if decision(ray, name, 1, accuracy[name]) == TrialScheduler.STOP}

        assert stopped_by_ray("abcdefgh") != stopped_by_ray("hgfedcba")
        thresholds = []
        for order in ("abcdefgh", "hgfedcba"):
            ours = Asha(1, 2)
            ours.begin(list(order))
            for name in order:
                ours.over(name, [accuracy[name]])
            thresholds.append(ours.begin(["next"])["next"]["thresholds"])
        assert thresholds == [[pytest.approx(0.45)]] * 2

    def test_a_wave_knows_nothing_of_itself(self):
        asha = Asha(2, 2)
        first = asha.begin(["a", "b"])
        assert first == {"a": {"thresholds": [None, None]}, "b": {"thresholds": [None, None]}}
        asha.over("a", [0.2, 0.4])
        asha.over("b", [0.6])
        assert asha.begin(["c"]) == {"c": {"thresholds": [pytest.approx(0.4), None]}}


def halved(ends: Mapping[str, list[float]], order: random.Random, rungs: int, reduction: int) -> dict[str, Any]:
    """What becomes of trials that have these accuracies, and end before a rung for which they have none."""
    scheduler = Halving(rungs, reduction)
    waiting = list(scheduler.begin(list(ends)).items())
    told = {}
    while waiting:
        order.shuffle(waiting)
        trial, orders = waiting.pop()
        until = orders.get("until", rungs)
        if "below" in orders or len(ends[trial]) <= until:
            told[trial] = ("below", until, orders["below"]) if "below" in orders else ("end", len(ends[trial]))
            more = scheduler.over(trial, ends[trial][: until + 1])
        else:
            assert orders.get("accuracies", []) == ends[trial][:until]
            more = scheduler.reached(trial, ends[trial][: until + 1])
        waiting += more.items()
    return told


class TestHalving:
    def test_nine_become_three_become_one_whatever_the_order(self):
        ends = {f"t{i}": [0.1 * i, 1 - 0.1 * i] for i in range(9)}
        for seed in range(20):
            told = halved(ends, random.Random(seed), rungs=2, reduction=3)
            assert {trial: told[trial][1] for trial in told if told[trial][0] == "below"} == {
                **dict.fromkeys((f"t{i}" for i in range(6)), 0),
                "t7": 1,
                "t8": 1,
            }
            assert told["t6"] == ("end", 2)
            assert told["t0"][2] == pytest.approx(0.6)
            assert told["t8"][2] == pytest.approx(0.4)

    def test_of_equal_trials_those_with_lower_numbers_go_on(self):
        told = halved({f"t{i}": [0.5] for i in range(5)}, random.Random(0), rungs=1, reduction=2)
        assert [trial for trial, end in sorted(told.items()) if end[0] == "end"] == ["t0", "t1"]

    def test_trials_that_ended_early_have_lost_and_the_rung_does_not_wait_for_them(self):
        ends: dict[str, list[float]] = {"t0": [], "t1": [0.2, 0.2], "t2": [], "t3": [0.1, 0.1]}
        told = halved(ends, random.Random(1), rungs=2, reduction=2)
        assert told == {"t0": ("end", 0), "t2": ("end", 0), "t1": ("end", 2), "t3": ("below", 1, 0.2)}

    def test_when_all_have_ended_nothing_is_left_to_decide(self):
        assert halved({"t0": [], "t1": []}, random.Random(1), rungs=2, reduction=2) == {
            "t0": ("end", 0),
            "t1": ("end", 0),
        }

    @given(st.lists(accuracies.map(lambda found: (found * 2)[:2]), min_size=4, max_size=12), st.integers(2, 3))
    @settings(deadline=None, max_examples=60)
    def test_as_many_go_on_as_a_plain_sort_lets_through(self, found: list[list[float]], reduction: int):
        ends = {f"t{i:02}": pair if len(pair) == 2 else pair * 2 for i, pair in enumerate(found)}
        told = halved(ends, random.Random(len(found)), rungs=2, reduction=reduction)
        left = sorted(ends)
        for rung in range(2):
            best = np.argsort([-ends[trial][rung] for trial in left], kind="stable")
            left = sorted(left[i] for i in best[: max(1, len(left) // reduction)])
        assert sorted(trial for trial, end in told.items() if end[0] == "end") == left


class TestRungs:
    @pytest.mark.parametrize(("method", "expected"), [("gradient", (33, 100)), ("evolution", (4, 15))])
    def test_lie_at_shares_of_the_planned_inner_steps(self, method: str, expected: tuple[int, ...]):
        run = RunConfig.model_validate({"name": "x", "search": {"scheduler": "halving", "wave": 9, "trials": 9}})
        assert trial_config(run, method, 0, {}).rungs == expected

    def test_there_are_none_without_a_scheduler(self):
        assert trial_config(RunConfig(name="x"), "gradient", 0, {}).rungs == ()

    @pytest.mark.parametrize(("name", "kind"), [("none", RunAll), ("asha", Asha), ("halving", Halving)])
    def test_schedulers_are_made_by_name(self, name: str, kind: type):
        search = SearchConfig.model_validate({"scheduler": name, "trials": 90, "wave": 9})
        assert isinstance(make_scheduler(search), kind)


# Plans


class Sampling:
    """Parameters that depend on the number and on what was told; equal ones happen."""

    replays = False

    def __init__(self) -> None:
        self.told: list[float] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"width": 10 + (int(trial_id[-4:]) * 7 + len(self.told) + round(100 * sum(self.told))) % 25}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        self.told.append(result["score"])

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        self.told.append(result["score"])


def accuracy_of(payload: Mapping[str, Any], rung: int) -> float:
    draw = random.Random(f"{payload['params']}-{rung}")
    return draw.randrange(50) / 100


def do(unit: Unit, rows: dict[str, Finished]) -> Outcome:
    """What work does, with made-up accuracies at two rungs; two configurations in nine diverge."""
    payload = unit.payload
    if original := payload.get("copy_of"):
        row = rows[original]
        return row.outcome
    diverges = {3: 0, 6: 1}.get(payload["params"]["width"] % 9)
    reached: list[float] = []
    for rung in range(2):
        if diverges == rung:
            return Outcome(Status.DIVERGED, PENALTY, "", tuple(reached))
        reached.append(accuracy_of(payload, rung))
        limit = (*payload.get("thresholds", ()), None, None)[rung]
        if payload.get("until") == rung and "below" not in payload:
            return Outcome(Status.OK, reached[-1], "", tuple(reached), paused=True)
        if payload.get("until") == rung or (limit is not None and reached[-1] < limit):
            return Outcome(Status.PRUNED, reached[-1], "", tuple(reached))
    return Outcome(Status.OK, 0.5 + accuracy_of(payload, 2), "", tuple(reached))


def searched(
    scheduler: Callable[[], Scheduler], *, workers: int, seed: int | None, kill: float = 0.0, common: bool = False
) -> dict[str, Finished]:
    """The rows of a search of 36 trials by some workers, units ending in any order, killed every now and then."""
    order, rows, kept = random.Random(seed or 0), dict[str, Finished](), dict[str, tuple[float, ...]]()
    copied: set[str] = set()
    while len(rows) < 36:
        plan = SearchPlan(
            {"gradient": Sampling()},
            trials=36,
            wave=9,
            finished=dict(rows),
            scheduler=scheduler,
            identity=(lambda method, number, params: str(params)) if common else None,
            # Now and then the last checkpoints of a trial are lost.
            reached=lambda method, number, params: kept.get(trial_id(method, number), ())[: order.choice((2, 2, 1, 0))],
        )
        running: list[Unit] = []
        while order.random() >= kill:
            while len(running) < workers and (unit := plan.next_unit()) is not None:
                running.append(unit)
            if not running:
                break
            unit = running.pop(order.randrange(len(running)) if seed is not None else 0)
            outcome = do(unit, rows)
            if outcome.paused:
                kept[unit.key] = max(outcome.rungs, kept.get(unit.key, ()), key=len)
            else:
                assert unit.key not in rows, "no trial is run twice"
                rows[unit.key] = Finished(unit.payload["params"], outcome)
                copied |= {unit.key} if "copy_of" in unit.payload else set()
            plan.finish(unit, outcome)
        assert plan.total == 36
    if common:
        configurations = [str(row.params) for key, row in rows.items() if key not in copied]
        assert len(set(configurations)) == len(configurations)
        assert copied
    return rows


SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "none": RunAll,
    "asha": lambda: Asha(2, 3),
    "halving": lambda: Halving(2, 3),
}


class TestPlans:
    @pytest.mark.parametrize("common", [False, True], ids=["own", "common"])
    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_rows_depend_on_neither_workers_nor_order_nor_interruptions(self, name: str, common: bool):
        expected = searched(SCHEDULERS[name], workers=1, seed=None, common=common)
        for seed, (workers, kill) in enumerate(itertools.product((1, 3, 20), (0.0, 0.08, 0.3))):
            assert searched(SCHEDULERS[name], workers=workers, seed=seed, kill=kill, common=common) == expected
        statuses = [row.outcome.status for row in expected.values()]
        assert (Status.PRUNED in statuses) == (name != "none")
        assert Status.DIVERGED in statuses
        assert len({row.params["width"] for row in expected.values()}) < 36

    def test_halving_ends_three_quarters_of_a_wave_early(self):
        rows = searched(SCHEDULERS["halving"], workers=2, seed=0)
        statuses = [rows[f"gradient-{n:04d}"].outcome.status for n in range(36)]
        waves = [statuses[first : first + 9] for first in range(0, 36, 9)]
        assert all(wave.count(Status.OK) <= 1 for wave in waves)

    def test_samplers_are_told_a_pruned_trial_by_its_last_accuracy(self):
        sampling = Sampling()
        finished = {"gradient-0000": Finished({"width": 10}, Outcome(Status.PRUNED, 0.3, "", (0.2, 0.3)))}
        SearchPlan({"gradient": sampling}, trials=2, wave=1, finished=finished)
        assert sampling.told == [0.3]
        plan = SearchPlan({"gradient": (sampling := Sampling())}, trials=2, wave=1)
        unit = plan.next_unit()
        assert unit is not None
        plan.finish(unit, Outcome(Status.PRUNED, 0.3, "", (0.2, 0.3)))
        assert sampling.told == [0.3]

    def test_a_part_of_a_trial_whose_process_died_is_run_again_as_the_next_attempt(self):
        plan = SearchPlan(
            {"gradient": Sampling()}, trials=2, wave=2, scheduler=lambda: Halving(1, 2), max_retries=1, attempts={}
        )
        first, second = plan.next_unit(), plan.next_unit()
        assert first is not None
        assert second is not None
        plan.finish(first, Outcome(Status.KILLED, PENALTY))
        again = plan.next_unit()
        assert again == Unit(first.key, 1, first.payload)
        plan.finish(again, Outcome(Status.OK, 0.5, "", (0.5,), paused=True))
        plan.finish(second, Outcome(Status.OK, 0.4, "", (0.4,), paused=True))
        last = plan.next_unit()
        assert last is not None
        assert (last.key, last.attempt, last.payload["accuracies"]) == (first.key, 1, [0.5])
        plan.finish(last, Outcome(Status.KILLED, PENALTY))
        over = plan.next_unit()
        assert over is not None
        assert (over.key, over.attempt, over.payload["below"], plan.done) == (second.key, 0, 0.5, 1)


class TestCopies:
    def test_the_first_of_equal_trials_is_run(self):
        copies = Copies("gradient", lambda method, number, params: str(params))
        for number, width in enumerate((3, 4, 3, 3)):
            copies.add(f"t{number}", number, {"width": width})
        assert [copies.original(f"t{number}") for number in range(4)] == [None, None, "t0", "t0"]
        assert not copies.is_ready("t2")
        assert copies.over("t0", Status.DIVERGED) == ["t2", "t3"]
        assert copies.is_ready("t2")

    def test_an_equal_trial_of_a_later_wave_is_run_when_the_first_failed(self):
        copies = Copies("gradient", lambda method, number, params: str(params))
        copies.add("t0", 0, {})
        copies.add("t1", 1, {})
        assert copies.over("t0", Status.FAILED) == ["t1"]
        copies.add("t2", 2, {})
        assert (copies.original("t1"), copies.original("t2")) == ("t0", None)

    def test_a_copy_runs_nothing_even_when_its_original_was_pruned(self):
        sampling = Sampling()
        sampling.suggest = lambda trial_id: {"width": 3}  # type: ignore[method-assign]
        plan = SearchPlan({"gradient": sampling}, trials=3, wave=2, identity=lambda *trial: str(trial[2]))
        first = plan.next_unit()
        assert first is not None
        assert plan.next_unit() is None  # the copy waits
        plan.finish(first, Outcome(Status.PRUNED, 0.3, "", (0.3,)))
        second = plan.next_unit()
        assert second is not None
        assert second.payload["copy_of"] == "gradient-0000"
        plan.finish(second, Outcome(Status.PRUNED, 0.3, "", (0.3,)))
        third = copy.deepcopy(plan.next_unit())
        assert third is not None
        assert third.payload["copy_of"] == "gradient-0000"
