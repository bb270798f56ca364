"""Units, outcomes, the plan of a list, and the runner without Ray."""

from __future__ import annotations

import json
import threading

import pytest

from search.ledger import IDLE, LONGEST_WAIT, Ledger
from search.limits import Deadline
from search.plan import PENALTY, ListPlan, Outcome, Unit, attempt, run_here
from search.schema import Status

OK = Outcome(Status.OK, 0.5)
KILLED = Outcome(Status.KILLED, PENALTY)


def units(count: int) -> list[Unit]:
    return [Unit(f"unit-{i}", payload={"number": i}) for i in range(count)]


def ignore(event: str, unit: Unit, outcome: Outcome | None) -> None:
    pass


class TestListPlan:
    def test_hands_out_its_units_in_order_and_counts_those_done_before(self):
        plan = ListPlan(units(2), already_done=3)
        assert (plan.total, plan.done) == (5, 3)
        first, second = plan.next_unit(), plan.next_unit()
        assert first is not None
        assert second is not None
        assert [first.key, second.key, plan.next_unit()] == ["unit-0", "unit-1", None]
        plan.finish(first, OK)
        assert plan.done == 4

    def test_hands_out_a_unit_again_under_a_new_attempt_until_its_tries_are_used_up(self):
        plan = ListPlan(units(1), max_retries=2)
        attempts = []
        while (unit := plan.next_unit()) is not None:
            attempts.append(unit.attempt)
            assert plan.done == 0
            plan.finish(unit, KILLED)
        assert attempts == [0, 1, 2]
        assert plan.done == 1

    def test_so_it_does_with_one_whose_process_was_ended_for_its_time(self):
        plan = ListPlan(units(1), max_retries=1)
        attempts = []
        while (unit := plan.next_unit()) is not None:
            attempts.append(unit.attempt)
            plan.finish(unit, Outcome(Status.TIMEOUT, PENALTY))
        assert (attempts, plan.done) == ([0, 1], 1)

    def test_does_not_repeat_a_unit_that_failed(self):
        plan = ListPlan(units(1))
        unit = plan.next_unit()
        assert unit is not None
        plan.finish(unit, Outcome(Status.FAILED, PENALTY))
        assert plan.next_unit() is None


class TestAttempt:
    def test_gives_the_outcome_of_the_work(self):
        assert attempt(lambda unit: OK, Unit("a")) is OK

    def test_makes_an_exception_an_outcome_on_one_line(self):
        def work(unit: Unit) -> Outcome:
            raise ValueError("two\n  lines")

        assert attempt(work, Unit("a")) == Outcome(Status.FAILED, PENALTY, "ValueError: two lines")

    def test_tells_lack_of_memory_from_other_errors_whichever_library_says_it(self):
        class OutOfMemoryError(RuntimeError):
            pass

        for error in (MemoryError("no"), OutOfMemoryError("no")):

            def work(unit: Unit, error: Exception = error) -> Outcome:
                raise error

            assert attempt(work, Unit("a")).status is Status.OOM

    @pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
    def test_lets_no_score_through_that_is_not_finite(self, score: float):
        outcome = attempt(lambda unit: Outcome(Status.OK, score), Unit("a"))
        assert (outcome.status, outcome.score) == (Status.FAILED, PENALTY)
        assert "the score of an outcome must be finite" in outcome.note

    def test_lets_no_other_value_through_that_is_not_finite(self):
        outcome = attempt(lambda unit: Outcome(Status.OK, 0.5, values={"flatness": float("nan")}), Unit("a"))
        assert outcome.status is Status.FAILED
        assert "the values of an outcome must be finite, but got {'flatness': nan}" in outcome.note

    def test_says_when_work_returns_something_else(self):
        assert "work must return an Outcome, but returned NoneType" in attempt(lambda unit: None, Unit("a")).note  # type: ignore[arg-type, return-value]


class TestRunHere:
    def test_tells_the_watch_of_each_start_and_end(self):
        events: list[tuple[str, str, Outcome | None]] = []
        run_here(
            ListPlan(units(2)), lambda unit: OK, lambda event, unit, outcome: events.append((event, unit.key, outcome))
        )
        assert events == [
            ("started", "unit-0", None),
            ("finished", "unit-0", OK),
            ("started", "unit-1", None),
            ("finished", "unit-1", OK),
        ]

    def test_goes_on_after_a_unit_that_raises(self):
        def work(unit: Unit) -> Outcome:
            if unit.key == "unit-0":
                raise RuntimeError("no")
            return OK

        plan = ListPlan(units(3))
        run_here(plan, work, ignore)
        assert plan.done == 3

    def test_starts_no_further_unit_once_it_shall_stop(self):
        plan = ListPlan(units(3))
        run_here(plan, lambda unit: OK, ignore, stop=lambda: plan.done == 2)
        assert plan.done == 2

    def test_tells_of_a_unit_that_is_past_its_deadline_while_it_still_runs(self):
        told: list[tuple[str, Outcome]] = []
        heard = threading.Event()

        def hung(unit: Unit, outcome: Outcome) -> None:
            told.append((unit.key, outcome))
            heard.set()

        def work(unit: Unit) -> Outcome:
            if unit.key == "unit-1":
                assert heard.wait(60)
            return OK

        def deadline(unit: Unit) -> Deadline | None:
            return Deadline(0.01, "some.key") if unit.key == "unit-1" else None

        plan = ListPlan(units(3))
        run_here(plan, work, ignore, deadline=deadline, hung=hung)
        words = "it did not answer for 0 s and was ended; some.key is exceeded"
        assert told == [("unit-1", Outcome(Status.TIMEOUT, PENALTY, words))]
        assert plan.done == 3


class TestLedger:
    """What Tune asks and tells, without Tune."""

    def test_is_over_when_all_units_have_ended(self):
        ledger = Ledger(ListPlan(units(1)), ignore, None)
        assert not ledger.over()
        text = ledger.hand_out("t1")
        assert text is not None
        assert json.loads(text)["key"] == "unit-0"
        assert not ledger.over()
        ledger.ended("t1", {"status": "ok", "score": 1.0, "note": ""})
        assert ledger.over()

    def test_tells_the_plan_every_value_of_an_outcome(self):
        told: list[Outcome] = []

        class Listening(ListPlan):
            def finish(self, unit: Unit, outcome: Outcome) -> None:
                told.append(outcome)

        ledger = Ledger(Listening(units(1)), ignore, None)
        ledger.hand_out("t1")
        ledger.ended("t1", {"status": "ok", "score": 0.5, "note": "", "values": '{"num_params": 7.0}'})
        assert told == [Outcome(Status.OK, 0.5, values={"num_params": 7.0})]

    def test_hands_out_a_unit_again_whose_trial_ended_without_a_result(self):
        told: list[tuple[str, Outcome | None]] = []
        ledger = Ledger(ListPlan(units(1)), lambda event, unit, outcome: told.append((event, outcome)), None)
        ledger.hand_out("t1")
        ledger.started("t1")
        ledger.died("t1", "its process died: segmentation fault")
        ledger.ended("t1", None)
        text = ledger.hand_out("t2")
        assert text is not None
        assert json.loads(text)["attempt"] == 1
        assert told == [
            ("started", None),
            ("finished", Outcome(Status.KILLED, PENALTY, "its process died: segmentation fault")),
        ]

    @pytest.mark.parametrize("seconds", [1.0, 11.0], ids=["killed", "past its deadline"])
    def test_a_unit_whose_process_ends_after_its_row_is_on_disk_is_done(self, seconds: float):
        told: list[Outcome | None] = []
        plan, done, now = ListPlan(units(1)), Outcome(Status.OK, 0.5, values={"num_params": 7.0}), [0.0]
        ledger = Ledger(
            plan,
            lambda event, unit, outcome: told.append(outcome),
            None,
            lambda unit: Deadline(10.0, "search.max_trial_seconds"),
            lambda: now[0],
            lambda unit: done if unit.key == "unit-0" else None,
        )
        ledger.hand_out("t1")
        ledger.started("t1")
        now[0] = seconds
        assert ledger.overdue() == ["t1"] * (seconds > 10)
        ledger.died("t1", "its process died")
        ledger.ended("t1", None)
        assert told == [None, done]
        assert plan.done == plan.total == 1

    def test_hands_on_what_a_trial_reached_and_that_it_waits(self):
        told: list[Outcome | None] = []
        ledger = Ledger(ListPlan(units(1)), lambda event, unit, outcome: told.append(outcome), None)
        ledger.hand_out("t1")
        ledger.ended("t1", {"status": "ok", "score": 0.3, "note": "", "rungs": [0.2, 0.3], "paused": True})
        assert told == [Outcome(Status.OK, 0.3, "", (0.2, 0.3), paused=True)]

    def test_lets_trials_idle_only_for_units_that_come_later(self):
        class Chain(ListPlan):
            """Each unit waits for the one before."""

            busy = False

            def next_unit(self) -> Unit | None:
                if self.busy or (unit := super().next_unit()) is None:
                    return None
                self.busy = True
                return unit

            def finish(self, unit: Unit, outcome: Outcome) -> None:
                self.busy = False
                super().finish(unit, outcome)

        ledger = Ledger(Chain(units(2)), ignore, None)
        assert ledger.hand_out("t1") != IDLE
        assert ledger.hand_out("t2") == IDLE
        assert ledger.hand_out("t3") is None  # one unit is left, and one trial waits for it already
        assert ledger.idles_on("t2")
        ledger.ended("t1", {"status": "ok", "score": 1.0, "note": ""})
        assert not ledger.idles_on("t2")
        ledger.ended("t2", {"score": 0.0})
        assert ledger.hand_out("t4") not in (None, IDLE)

    def test_an_idle_trial_makes_room_for_a_unit_that_has_waited_long_for_a_process(self):
        class Wave(ListPlan):
            """Others come later than the first."""

            def next_unit(self) -> Unit | None:
                return super().next_unit() if self.total - self.done == len(self._waiting) == 3 else None

        now = [0.0]
        ledger = Ledger(Wave(units(3)), ignore, None, clock=lambda: now[0])
        assert ledger.hand_out("t1") != IDLE
        assert ledger.hand_out("t2") == IDLE
        now[0] = LONGEST_WAIT
        assert ledger.idles_on("t2")
        now[0] = LONGEST_WAIT + 1
        assert not ledger.idles_on("t2")
        ledger.started("t1")
        assert ledger.idles_on("t2")

    def test_keeps_the_error_of_a_plan_and_hands_out_nothing_more(self):
        class Broken(ListPlan):
            def finish(self, unit: Unit, outcome: Outcome) -> None:
                raise OSError("the run folder is gone")

        ledger = Ledger(Broken(units(3)), ignore, None)
        ledger.hand_out("t1")
        ledger.hand_out("t2")
        ledger.ended("t1", {"status": "ok", "score": 1.0, "note": ""})
        assert str(ledger.error) == "the run folder is gone"
        assert ledger.over()
        ledger.ended("t2", {"status": "ok", "score": 1.0, "note": ""})
        assert str(ledger.error) == "the run folder is gone"

    def test_hands_out_nothing_more_once_it_shall_stop(self):
        stopped: list[bool] = []
        ledger = Ledger(ListPlan(units(3)), ignore, lambda: bool(stopped))
        ledger.hand_out("t1")
        stopped.append(True)
        assert ledger.over()
        assert ledger.hand_out("t2") is None
