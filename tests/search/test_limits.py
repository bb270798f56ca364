"""What a trial may take, what a run may fail, and workers that outlive their driver."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from search.checkpoint import BETWEEN, Checkpoint
from search.driver_lock import LeftBehindError, driver_lock, require_driver
from search.durable import StoreError
from search.launch import Account
from search.ledger import Ledger
from search.leg import Leg
from search.limits import (
    Deadline,
    OutOfTime,
    ShardLimits,
    briefly,
    deadline_of,
    is_out_of_memory,
    memory_limited,
    require_time,
    watched,
)
from search.plan import PENALTY, ListPlan, Outcome, Unit, attempt
from search.run_folder import RunFolder
from search.schema import Status
from search.search_plan import METRIC
from search.trial import run_trial
from search.unjudged import Notes, read_unjudged, unjudged_words
from search.work import do_unit
from tests.small_runs import assert_same_rows, drive_here, new_run, rows, tiny_trial

ROOT = Path(__file__).resolve().parents[2]
FIRST = Unit("gradient-0000", 0, {"kind": "trial", "method": "gradient", "number": 0, "params": {"inner_lr": 0.01}})


# Time


def test_time_is_over_when_it_is_more_than_the_limit_and_never_without_one():
    require_time(5.0, 5.0, "after step 3")
    require_time(1e9, 0.0, "after step 3")
    with pytest.raises(OutOfTime, match=r"after step 3: 5\.1 s are more than search\.max_trial_seconds = 5;"):
        require_time(5.1, 5.0, "after step 3")


def test_a_trial_whose_time_is_over_ends_after_the_step_with_its_status(monkeypatch: pytest.MonkeyPatch):
    now = iter(range(1000))
    monkeypatch.setattr("search.trial.time", SimpleNamespace(monotonic=lambda: float(next(now))))
    records = run_trial(tiny_trial("evolution", evolution={"generations": 20}), max_seconds=4.0)
    # The clock ticks once at the start and once after each step: the fifth is the first to see more than 4 s.
    assert (records.status, len(records.steps)) == (Status.TIMEOUT, 5)
    assert records.trial["error_type"] == "OutOfTime"
    assert records.trial.get("score") is None


def test_time_of_earlier_attempts_counts_when_a_trial_goes_on_from_a_checkpoint():
    stands = Checkpoint(BETWEEN, 0, {}, [], [], 0, 1.0, 100.0, "2026-01-01T00:00:00+00:00")
    trial = tiny_trial("gradient")
    state = {"genomes": torch.zeros(1, 2, 13), "momentum": torch.zeros(1, 2, 13)}
    begun = Checkpoint(**{**vars(stands), "state": state})
    assert run_trial(trial, leg=Leg(begun), max_seconds=60.0).status is Status.TIMEOUT


def test_trials_without_time_are_recorded_and_the_run_goes_on(tmp_path: Path):
    run = new_run(tmp_path, search={"max_trial_seconds": 1e-9})
    account, _ = drive_here(run)
    trials = pd.read_parquet(run.path / "trials")
    assert trials["status"].tolist() == ["timeout"] * 4
    assert trials["score"].isna().all()
    assert not account.interrupted
    assert {outcome.status for _, outcome in account.problems} == {Status.TIMEOUT}
    assert list((run.path / "steps").iterdir()) == []


class TestDeadlines:
    """When units and shards are given up that say nothing."""

    @pytest.mark.parametrize(
        ("kind", "trial_seconds", "evaluation_seconds", "seconds"),
        [
            ("trial", 0.0, 5.0, None),
            ("trial", 30.0, 5.0, 90.0),  # it may be in the middle of a long step, and ends by itself after it
            ("evaluation", 30.0, 0.0, None),
            ("evaluation", 30.0, 5.0, 5.0),
            ("spectral_bias", 30.0, 0.0, None),
            ("spectral_bias", 30.0, 5.0, 5.0),
        ],
    )
    def test_every_kind_of_unit_has_its_own(
        self, kind: str, trial_seconds: float, evaluation_seconds: float, seconds: float | None
    ):
        found = deadline_of(kind, trial_seconds=trial_seconds, evaluation_seconds=evaluation_seconds)
        key = "search.max_trial_seconds" if kind == "trial" else "resources.max_evaluation_seconds"
        assert found == (None if seconds is None else Deadline(seconds, key))

    @pytest.mark.parametrize(
        ("trial_seconds", "outer_steps", "seconds"),
        [(0.0, 300, None), (7200.0, 300, 240.0), (3600.0, 3, 12_000.0), (10.0, 300, 120.0)],
    )
    def test_a_shard_may_take_ten_times_what_a_step_may_and_never_less_than_two_minutes(
        self, trial_seconds: float, outer_steps: int, seconds: float | None
    ):
        found = ShardLimits(trial_seconds).deadline(outer_steps)
        assert (None if found is None else found.seconds) == seconds

    def test_work_that_ends_in_time_is_not_told_of(self):
        told: list[str] = []
        before = threading.active_count()
        for _ in range(3):
            with watched(Deadline(1000.0, "some.key"), told.append):
                pass
        assert told == []
        assert threading.active_count() <= before + 3  # cancelled timers may not have ended yet
        with pytest.raises(ZeroDivisionError), watched(Deadline(1000.0, "some.key"), told.append):
            _ = 1 / 0

    def test_work_that_ends_while_it_is_told_of_waits_for_the_end_of_that(self):
        order, told = list[str](), threading.Event()

        def expired(words: str) -> None:
            told.set()
            time.sleep(0.05)
            order.append("told")

        with watched(Deadline(0.01, "some.key"), expired):
            assert told.wait(60)
        order.append("went on")
        assert order == ["told", "went on"]

    def test_last_words_are_not_waited_for_without_end(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("search.limits.LAST_WORDS_SECONDS", 0.01)
        never, said = threading.Event(), list[str]()
        briefly(never.wait)
        briefly(said.append, "words")
        assert said == ["words"]
        never.set()


class TestOverdueUnits:
    """What the driver does about a unit that does not answer, on a clock of its own."""

    def ledger(self, units: int, **options: Any) -> tuple[Ledger, list[float], list[tuple[str, Outcome | None]]]:
        now, told = [0.0], []
        plan = ListPlan([Unit(f"unit-{i}", payload={"limit": 10.0 if i else 0.0}) for i in range(units)])
        ledger = Ledger(
            plan,
            lambda event, unit, outcome: told.append((unit.key, outcome)),
            None,
            lambda unit: Deadline(unit.payload["limit"], "some.key") if unit.payload["limit"] else None,
            lambda: now[0],
        )
        for i in range(units):
            ledger.hand_out(f"t{i}")
        return ledger, now, told

    def test_only_units_that_have_started_and_have_a_limit_are_overdue_and_told_once(self):
        ledger, now, _ = self.ledger(3)
        ledger.started("t0")
        ledger.started("t1")
        now[0] = 10.0
        assert ledger.overdue() == []
        now[0] = 10.5
        assert ledger.overdue() == ["t1"]
        assert ledger.overdue() == []

    def test_it_ends_as_a_timeout_whatever_is_said_of_its_death(self):
        ledger, now, told = self.ledger(2)
        ledger.started("t1")
        now[0] = 11.0
        ledger.overdue()
        ledger.died("t1", "its process died: killed")
        ledger.ended("t1", None)
        assert told[-1][1] is not None
        assert told[-1][1].status is Status.TIMEOUT
        assert told[-1][1].note == "it did not answer for 11 s and was ended; some.key is exceeded"
        assert ledger.overdue() == []

    def test_one_that_answers_in_the_last_moment_counts(self):
        ledger, now, told = self.ledger(2)
        ledger.started("t1")
        now[0] = 11.0
        ledger.overdue()
        ledger.ended("t1", {METRIC: 0.5, "status": "ok", "note": ""})
        assert told[-1][1] == Outcome(Status.OK, 0.5)

    def test_a_process_that_was_killed_for_memory_has_that_status(self):
        ledger, _, told = self.ledger(1)
        ledger.started("t0")
        ledger.died("t0", "its process died: Task was killed due to the node running low on memory.")
        ledger.ended("t0", None)
        assert told[-1][1] is not None
        assert told[-1][1].status is Status.OOM


# Memory


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what a process uses")
class TestMemory:
    def test_more_than_the_limit_is_refused_and_less_is_not(self):
        with memory_limited(300):
            assert len(torch.ones(2**20)) == 2**20
            with pytest.raises((MemoryError, RuntimeError), match="can't allocate memory"):
                torch.ones(2**28)
        assert len(torch.ones(2**27)) == 2**27

    def test_a_trial_that_asks_for_more_has_the_status_oom_and_the_run_goes_on(self, tmp_path: Path):
        big = {"method": "gradient", "ldnn": {"width": 2000}, "evaluation": {"usual": []}}
        run = new_run(tmp_path, **big, resources={"memory_per_trial": 8})
        account, told = drive_here(run)
        assert pd.read_parquet(run.path / "trials")["status"].tolist() == ["oom", "oom"]
        assert told.finished == ["gradient-0000", "gradient-0001"]
        assert not account.interrupted

    def test_so_does_a_batch_of_judged_networks_and_the_run_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        run = new_run(tmp_path, resources={"memory_per_trial": 400})
        monkeypatch.setattr("search.work.judge", lambda *_: torch.ones(2**28))
        account, _ = drive_here(run)
        assert not account.interrupted
        assert set(pd.read_parquet(run.path / "trials")["status"]) == {"ok"}
        assert [outcome.status for _, outcome in account.problems] == [Status.OOM] * 6
        assert {note["status"] for note in read_unjudged(run.store.storage)} == {"oom"}


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("of another library"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_too_little_memory_is_known_by_whichever_error_says_it(error: Exception, is_so: bool):
    def work(unit: Unit) -> Outcome:
        raise error

    assert is_out_of_memory(error) == is_so
    assert attempt(work, FIRST).status is (Status.OOM if is_so else Status.FAILED)


# What judges networks


def test_a_batch_that_hangs_again_and_again_is_noted_and_judged_on_resume(
    undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, attempts = new_run(tmp_path), list[int]()
    words = "it did not answer for 9 s and was ended; resources.max_evaluation_seconds is exceeded"

    def work(unit: Unit, **arguments: Any) -> Outcome:
        if unit.payload["kind"] == "evaluation" and (unit.payload["trial_id"], unit.payload["width"]) == ("usual", 6):
            attempts.append(unit.attempt)
            return Outcome(Status.TIMEOUT, 0.0, words)
        return do_unit(unit, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr("search.work.do_unit", work)
        account, _ = drive_here(run)
    assert (attempts, account.interrupted) == ([0, 1, 2], False)
    [(unit, _)] = account.problems
    [note] = read_unjudged(run.store.storage)
    assert (note["unit"], note["status"], note["error"], note["attempts"]) == (unit.key, "timeout", words, 3)
    assert unjudged_words([note]) == [f"{unit.key} is not judged: timeout, {words}"]
    missing = pd.concat([rows(run.path, "evaluations"), rows(undisturbed.path, "evaluations")]).astype(str)
    missing = missing.drop_duplicates(["trial_id", "arm", "width", "seed"], keep=False)
    assert set(zip(missing["trial_id"], missing["width"], strict=True)) == {("usual", "6")}

    account, told = drive_here(run)
    assert (told.finished, account.problems) == ([unit.key], [])
    assert read_unjudged(run.store.storage) == []
    assert_same_rows(run.path, undisturbed.path)


def test_a_batch_that_fails_because_another_driver_has_come_is_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = new_run(tmp_path, method="gradient", search={"trials": 1})

    def work(unit: Unit, **arguments: Any) -> Outcome:
        if unit.payload["kind"] == "evaluation":
            claim = {"host": "x", "pid": 1, "boot_id": None, "started_at": "then", "token": "another"}
            (run.path / ".driver.json").write_text(json.dumps(claim))
        return do_unit(unit, **arguments)

    monkeypatch.setattr("search.work.do_unit", work)
    with pytest.raises(StoreError, match="was taken over by another driver"):
        drive_here(run)
    assert read_unjudged(run.store.storage) == []
    assert list((run.path / "evaluations").iterdir()) == []


class TestNotes:
    """What `ldnn status` reads about networks that are not there."""

    def test_a_batch_that_is_judged_after_all_has_none(self, tmp_path: Path):
        storage = new_run(tmp_path).store.storage
        notes = Notes(storage, afresh=True)
        notes.ended("a", "killed", "its process died", attempts=1)
        notes.ended("b", "failed", "ValueError: no", attempts=1)
        notes.ended("a", "ok", "8 networks", attempts=2)
        assert [note["unit"] for note in read_unjudged(storage)] == ["b"]

    def test_those_of_earlier_drives_stay_unless_all_is_looked_into(self, tmp_path: Path):
        storage = new_run(tmp_path).store.storage
        Notes(storage, afresh=False).ended("a", "killed", "its process died", attempts=1)
        Notes(storage, afresh=False)
        assert [note["unit"] for note in read_unjudged(storage)] == ["a"]
        Notes(storage, afresh=False).ended("a", "ok", "", attempts=1)
        assert read_unjudged(storage) == []
        Notes(storage, afresh=False).ended("a", "killed", "its process died", attempts=1)
        Notes(storage, afresh=True)
        assert read_unjudged(storage) == []

    def test_what_is_none_is_passed_over(self, tmp_path: Path):
        run = new_run(tmp_path)
        Notes(run.store.storage, afresh=True).ended("a", "oom", "", attempts=1)
        for name, text in (("b.json", "half a"), ("c.json", "[]"), ("d.json", '{"unit": "d"}')):
            (tmp_path / "tiny" / "unjudged" / name).write_text(text)
        assert [note["unit"] for note in read_unjudged(run.store.storage)] == ["a"]

    def test_one_that_cannot_be_written_stops_nothing(self, tmp_path: Path):
        run = new_run(tmp_path)
        (tmp_path / "tiny" / "unjudged").write_text("no folder")
        Notes(run.store.storage, afresh=True).ended("a", "oom", "", attempts=1)


# Work in the driver's own process


def test_a_trial_that_hangs_in_the_drivers_process_is_recorded_before_the_process_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What ends the process lets the trial go on here, so that the test does."""
    run, free, accounts = new_run(tmp_path, search={"max_trial_seconds": 1000.0}), threading.Event(), list[Account]()
    monkeypatch.setattr("search.limits.GRACE_SECONDS", -999.9)

    def hangs(unit: Unit, **_: Any) -> Outcome:
        assert free.wait(60)
        return Outcome(Status.FAILED, 0.0)

    def leave(account: Account) -> Any:
        accounts.append(replace(account, problems=list(account.problems)))
        free.set()

    monkeypatch.setattr("search.work.do_unit", hangs)
    drive_here(run, leave=leave, stop=free.is_set)
    [account] = accounts
    assert (account.hung, account.interrupted) == (True, True)
    assert [(unit.key, outcome.status) for unit, outcome in account.problems] == [("gradient-0000", Status.TIMEOUT)]
    [row] = pd.read_parquet(run.path / "trials").to_dict("records")
    assert (row["trial_id"], row["attempt"], row["status"]) == ("gradient-0000", 0, "timeout")
    assert row["error"] == "it did not answer for 0 s and was ended; search.max_trial_seconds is exceeded"


# Failures


def test_a_run_stops_when_too_many_trials_have_failed_and_can_be_resumed(
    undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = new_run(tmp_path, search={"max_failures": 2})
    monkeypatch.setattr("search.work.run_trial", lambda *_, **__: 1 / 0)
    account, told = drive_here(run)
    assert (account.gave_up, account.interrupted) == (True, True)
    assert told.finished == ["gradient-0000", "evolution-0000"]
    assert set(pd.read_parquet(run.path / "trials")["status"]) == {"failed"}
    monkeypatch.undo()
    account, _ = drive_here(run)
    assert (account.gave_up, account.interrupted) == (False, False)
    found = rows(run.path, "trials")
    assert found.query("status == 'ok'")["score"].tolist() == rows(undisturbed.path, "trials")["score"].tolist()


def killed_at_first(unit: Unit, **_: Any) -> Outcome:
    return Outcome(Status.OK if unit.attempt else Status.KILLED, PENALTY)


def test_a_death_that_is_retried_is_no_failure_until_the_retries_are_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("search.work.do_unit", killed_at_first)
    run = new_run(tmp_path, search={"max_failures": 1, "max_retries": 1}, evaluation={"best": 0})
    account, told = drive_here(run)
    assert (account.gave_up, account.interrupted, len(told.finished)) == (False, False, 8)
    run = new_run(tmp_path / "none", search={"max_failures": 1, "max_retries": 0}, evaluation={"best": 0})
    account, told = drive_here(run)
    assert (account.gave_up, told.finished) == (True, ["gradient-0000"])


def test_batches_of_judged_networks_are_no_failed_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = new_run(tmp_path, method="gradient", search={"max_failures": 1, "trials": 1})
    monkeypatch.setattr("search.work.judge", lambda *_, **__: 1 / 0)
    account, _ = drive_here(run)
    assert (account.gave_up, account.interrupted) == (False, False)
    assert len(account.problems) > 1


def test_diverged_trials_are_no_failures(tmp_path: Path):
    hostile = {"ldnn": {"base": "relu"}, "inner": {"optimizer": "sgd", "lr": 1e6}}
    run = new_run(tmp_path, **hostile, search={"max_failures": 1, "space": {}})
    account, _ = drive_here(run)
    assert set(pd.read_parquet(run.path / "trials")["status"]) == {"diverged"}
    assert not account.gave_up


# Workers that outlive their driver


def test_a_worker_publishes_for_its_own_driver_only(tmp_path: Path):
    run = new_run(tmp_path)
    with driver_lock(run, token="mine"):
        require_driver(run.path, "mine")
        with pytest.raises(LeftBehindError, match=r"no longer drives .*tiny: nothing is published"):
            do_unit(FIRST, run=str(run.path), device="cpu", driver="another")
        assert list((run.path / "trials").iterdir()) == []
        assert list((run.path / "steps").iterdir()) == []
        assert do_unit(FIRST, run=str(run.path), device="cpu", driver="mine").status is Status.OK
    # The driver has ended well: whoever still works for it is late.
    with pytest.raises(LeftBehindError):
        require_driver(run.path, "mine")


def test_as_long_as_nobody_has_come_after_a_killed_driver_its_workers_are_welcome(tmp_path: Path):
    run = new_run(tmp_path)
    code = """
import os, sys
from pathlib import Path
from search.driver_lock import driver_lock
from search.run_folder import open_run
with driver_lock(open_run(Path(sys.argv[1])), token="dead"):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(run.path)], cwd=ROOT).returncode == 9
    assert do_unit(FIRST, run=str(run.path), device="cpu", driver="dead").status is Status.OK
    with driver_lock(run), pytest.raises(LeftBehindError):
        require_driver(run.path, "dead")


WORKER = """
import json, sys
from search.plan import Unit
from search.work import do_unit
do_unit(Unit(**json.loads(sys.argv[2])), run=sys.argv[1], device="cpu", driver="dead", checkpoint_seconds=0.05)
"""


def test_a_left_behind_worker_ends_by_itself_once_another_driver_has_come(tmp_path: Path):
    run = new_run(tmp_path, gradient={"outer_steps": 100_000})
    (run.path / ".driver.json").write_text(
        json.dumps({"host": "x", "pid": 1, "boot_id": None, "started_at": "then", "token": "dead"})
    )
    unit = json.dumps({"key": FIRST.key, "attempt": 0, "payload": FIRST.payload})
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(run.path), unit], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 60
        while not list(run.path.glob("checkpoints/*")):
            assert worker.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        with driver_lock(run):
            _, err = worker.communicate(timeout=60)
    finally:
        worker.kill()
    assert worker.returncode == 1
    assert "LeftBehindError: the driver that asked for this work no longer drives" in err
    assert list((run.path / "trials").iterdir()) == []


def test_a_claim_without_a_token_is_that_of_an_earlier_version(tmp_path: Path):
    run = new_run(tmp_path)
    (run.path / ".driver.json").write_text('{"host": "x", "pid": 1, "boot_id": null, "started_at": "then"}')
    with pytest.raises(LeftBehindError):
        require_driver(run.path, "mine")
    (run.path / ".driver.json").write_text("half a rec")
    require_driver(run.path, "mine")  # somebody is just writing it: it cannot be told


def test_limits_change_no_number(undisturbed: RunFolder, tmp_path: Path):
    limits = {"checkpoint_seconds": 1e-6, "memory_per_trial": 4000}
    run = new_run(tmp_path, search={"max_trial_seconds": 1000.0}, resources=limits)
    drive_here(run)
    for table in ("steps", "activations"):
        pd.testing.assert_frame_equal(rows(run.path, table), rows(undisturbed.path, table), check_exact=True)
