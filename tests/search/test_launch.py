"""Driving a run from wherever it stands to its end: nothing twice, nothing lost, the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from search.config import RunConfig
from search.driver_lock import driver_lock
from search.durable import CRASH_EXIT
from search.gradient import search_by_gradient
from search.launch import _on_disk, default_request, drive, trials_so_far
from search.limits import ShardLimits
from search.plan import PENALTY, Outcome, Unit
from search.run_folder import RunFolderError
from search.schema import Status
from search.store import SchemaError, Store, StoreError
from search.work import do_unit
from tests.small_runs import assert_same_rows, drive_here, new_run, rows

ROOT = Path(__file__).resolve().parents[2]
TRIALS = ["gradient-0000", "evolution-0000", "gradient-0001", "evolution-0001"]
UNITS = 4 + 3 * 2
"""Trials, and batches of networks: two sets and the usual activations at two widths."""


def parts(run):
    return {path: path.stat().st_mtime_ns for path in run.path.glob("*/part-*.parquet")}


def test_a_run_has_all_its_rows(undisturbed):
    trials = pd.read_parquet(undisturbed.path / "trials")
    assert sorted(trials["trial_id"]) == sorted(TRIALS)
    assert set(trials["status"]) == {"ok"}
    sampled = [set(json.loads(params)) for params in trials.sort_values("trial_id")["params"]]
    assert sampled == [{"inner_lr", "mutation_scale"}] * 2 + [{"inner_lr"}] * 2
    evaluations = pd.read_parquet(undisturbed.path / "evaluations")
    cells = evaluations.groupby(["trial_id", "arm", "width"])["seed"].agg(list)
    assert len(cells) == (2 * 3 + 2) * 2
    assert all(sorted(seeds) == [0, 1] for seeds in cells)
    learned = set(evaluations["trial_id"]) - {"usual"}
    assert learned == set(
        default_request(RunConfig.model_validate(undisturbed.info.config), undisturbed.store).trial_ids
    )


def test_the_disk_knows_how_a_trial_ended_whose_process_could_not_say_so(undisturbed):
    row = pd.read_parquet(undisturbed.path / "trials").set_index("trial_id").loc["gradient-0001"]
    unit = Unit("gradient-0001", payload={"kind": "trial"})
    found = _on_disk(undisturbed, unit)
    assert (found.status, found.score) == (Status.OK, row["score"])
    assert _on_disk(undisturbed, Unit("gradient-0002", payload={"kind": "trial"})) is None
    assert _on_disk(undisturbed, Unit("gradient-0001", payload={"kind": "evaluation"})) is None


def test_trials_come_first_and_methods_take_turns(tmp_path):
    run = new_run(tmp_path)
    account, told = drive_here(run)
    assert told.finished[:4] == TRIALS
    assert len(told.finished) == account.finished == UNITS
    assert [key for event, key in told.events[:2]] == [TRIALS[0]] * 2
    assert (account.skipped, account.problems, account.interrupted) == (0, [], False)


def test_driving_a_finished_run_does_nothing(undisturbed):
    before = parts(undisturbed)
    account, told = drive_here(undisturbed)
    assert told.events == []
    assert (account.finished, account.skipped, account.interrupted) == (0, UNITS, False)
    assert parts(undisturbed) == before


def test_a_run_stopped_after_each_unit_ends_with_the_rows_of_an_undisturbed_one(undisturbed, tmp_path):
    run, done = new_run(tmp_path), []
    for _ in range(UNITS + 1):
        asked = iter([False, True])
        account, told = drive_here(run, stop=lambda asked=asked: next(asked, True))
        done += told.finished
        if not account.interrupted:
            break
        assert account.finished == 1
        assert (account.skipped, len(done)) == (len(done) - 1, account.skipped + 1)
    assert len(done) == len(set(done)) == UNITS
    assert_same_rows(run.path, undisturbed.path)


def test_a_stop_before_anything_does_nothing(tmp_path):
    run = new_run(tmp_path)
    account, told = drive_here(run, stop=lambda: True)
    assert account.interrupted
    assert told.events == []
    assert parts(run) == {}


_DIE = """
import sys
from pathlib import Path
from search.run_folder import open_run
from tests.small_runs import drive_here
drive_here(open_run(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("point", "orphans"),
    [
        ("published@steps/part-gradient-0001", {"part-gradient-0001-a0.parquet"}),
        ("linked@trials/part-gradient-0001", set()),
        ("written@evaluations/", set()),
    ],
)
def test_a_driver_that_dies_while_publishing_loses_and_repeats_nothing(undisturbed, tmp_path, point, orphans):
    run = new_run(tmp_path)
    died = subprocess.run(
        [sys.executable, "-c", _DIE, str(run.path)],
        cwd=ROOT,
        env={**os.environ, "LDNN_CRASH_POINT": point},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert died.returncode == CRASH_EXIT, died.stderr
    before = parts(run)
    finished = pd.read_parquet(run.path / "trials")["trial_id"].tolist()
    account, told = drive_here(run)
    assert {bad.path.name for bad in account.quarantined} == orphans
    assert {path.name for path in (run.path / "quarantine" / "steps").glob("*.parquet")} == orphans
    assert set(told.finished) & set(finished) == set()
    assert account.skipped == len(finished)
    kept = [path for path in before if path.name not in orphans]
    assert {path: before[path] for path in kept}.items() <= parts(run).items()
    assert_same_rows(run.path, undisturbed.path)


def test_a_damaged_part_is_moved_away_and_its_work_done_again(undisturbed, tmp_path):
    run = new_run(tmp_path)
    drive_here(run)
    part = run.path / "activations" / "part-gradient-0000-a0.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    account, told = drive_here(run)
    assert told.finished == ["gradient-0000"]
    assert {(bad.table, bad.path.name) for bad in account.quarantined} == {
        (table, part.name) for table in ("activations", "trials", "steps")
    }
    assert_same_rows(run.path, undisturbed.path)


@pytest.mark.parametrize("table", ["steps", "activations"])
def test_a_trial_whose_part_is_gone_is_done_again(undisturbed, tmp_path, table):
    run = new_run(tmp_path)
    drive_here(run)
    (run.path / table / "part-evolution-0001-a0.parquet").unlink()
    account, told = drive_here(run)
    assert told.finished == ["evolution-0001"]
    assert {bad.table for bad in account.quarantined} == {"trials", "steps", "activations"} - {table}
    assert_same_rows(run.path, undisturbed.path)


def test_a_finished_run_can_be_judged_further(undisturbed, tmp_path):
    from search.evaluate import Request

    run = new_run(tmp_path)
    drive_here(run)
    before = rows(run.path, "evaluations")
    request = Request(("gradient-0000",), (6, 12), (1, 2), 3)
    account, _ = drive_here(run, search=False, request=request)
    assert account.problems == []
    after = rows(run.path, "evaluations")
    wanted = after.query("trial_id in ['gradient-0000', 'usual'] and width in [6, 12]")
    assert (wanted.groupby(["trial_id", "arm", "width", "depth"])["seed"].agg(sorted).apply(tuple) == (0, 1, 2)).all()
    assert len(wanted) == (3 + 2) * 4 * 3
    keys = ["trial_id", "arm", "width", "depth", "seed"]
    assert not after.duplicated(keys).any()
    pd.testing.assert_frame_equal(before, after.merge(before[keys], on=keys)[before.columns], check_like=True)
    assert drive_here(run, search=False, request=request)[1].events == []


def test_without_evaluations_a_run_is_its_trials(tmp_path):
    run = new_run(tmp_path, evaluation={"best": 0}, search={"trials": 1})
    account, told = drive_here(run)
    assert told.plan.total == account.finished == 2
    assert run.store.read("evaluations").num_rows == 0


def test_when_every_trial_diverges_the_usual_activations_are_judged_and_nothing_is_best(tmp_path):
    space = {"inner_lr": {"choices": [1e6]}}
    run = new_run(tmp_path, ldnn={"base": "relu"}, inner={"optimizer": "sgd"}, search={"space": space})
    account, _ = drive_here(run)
    assert {outcome.status for _, outcome in account.problems} == {Status.DIVERGED}
    assert not account.interrupted
    assert set(pd.read_parquet(run.path / "trials")["status"]) == {"diverged"}
    assert set(pd.read_parquet(run.path / "evaluations")["trial_id"]) == {"usual"}
    assert drive_here(run)[1].events == []


def failing_once(monkeypatch, key, how):
    """The unit of this key fails at its first attempt; a list of the attempts at it."""
    attempts = []

    def work(unit, **arguments):
        if unit.key == key:
            attempts.append(unit.attempt)
            if len(attempts) == 1:
                return how(unit)
        return do_unit(unit, **arguments)

    monkeypatch.setattr("search.work.do_unit", work)
    return attempts


def test_a_trial_whose_process_dies_is_tried_again_and_is_no_problem_in_the_end(monkeypatch, undisturbed, tmp_path):
    run = new_run(tmp_path)
    killed = Outcome(Status.KILLED, PENALTY, "its process died")
    attempts = failing_once(monkeypatch, "gradient-0001", lambda unit: killed)
    account, _ = drive_here(run)
    assert attempts == [0, 1]
    assert (account.finished, account.problems) == (UNITS, [])
    frame = pd.read_parquet(run.path / "trials").query("trial_id == 'gradient-0001'").sort_values("attempt")
    assert frame["status"].tolist() == ["killed", "ok"]
    assert frame["error"].tolist()[0] == "its process died"
    assert len(set(frame["config_hash"])) == 1
    (run.path / "trials" / "part-gradient-0001-a0.parquet").unlink()
    assert_same_rows(run.path, undisturbed.path)


def test_a_trial_that_dies_too_often_is_recorded_and_the_run_goes_on(monkeypatch, tmp_path):
    run = new_run(tmp_path, search={"max_retries": 1})
    killed = Outcome(Status.KILLED, PENALTY, "its process died")

    def work(unit, **arguments):
        return killed if unit.key == "gradient-0000" else do_unit(unit, **arguments)

    monkeypatch.setattr("search.work.do_unit", work)
    account, _ = drive_here(run)
    assert not account.interrupted
    assert [(unit.key, unit.attempt, outcome) for unit, outcome in account.problems] == [("gradient-0000", 1, killed)]
    frame = pd.read_parquet(run.path / "trials")
    assert frame.groupby("trial_id")["status"].agg(list)["gradient-0000"] == ["killed", "killed"]
    # Later trials were sampled with its failure known, so that a resume must not try it again.
    monkeypatch.undo()
    assert drive_here(run)[1].events == []


def test_a_trial_of_the_last_wave_that_failed_is_tried_again_on_resume(monkeypatch, undisturbed, tmp_path):
    run = new_run(tmp_path)

    def search(setting, *rest):
        if setting.config.number == 1:
            raise OSError("the data is gone")
        return search_by_gradient(setting, *rest)

    monkeypatch.setattr("search.trial.search_by_gradient", search)
    account, _ = drive_here(run)
    monkeypatch.undo()
    assert [(unit.key, outcome.status) for unit, outcome in account.problems] == [("gradient-0001", "failed")]
    account, told = drive_here(run)
    assert told.finished[0] == "gradient-0001"
    assert account.problems == []
    frame = pd.read_parquet(run.path / "trials").query("trial_id == 'gradient-0001'")
    assert sorted(zip(frame["attempt"], frame["status"], strict=True)) == [(0, "failed"), (1, "ok")]
    (run.path / "trials" / "part-gradient-0001-a0.parquet").unlink()
    for table in ("trials", "steps", "activations"):
        pd.testing.assert_frame_equal(rows(run.path, table), rows(undisturbed.path, table), check_exact=True)


def refuse(monkeypatch, table, key, error):
    """Let publishing a part fail in the work; the driver's own publishing works."""
    publish = Store.publish

    def refusing(self, name, part, found):
        if (name, part) == (table, key) and "score" not in found[0]:
            raise error
        return publish(self, name, part, found)

    monkeypatch.setattr(Store, "publish", refusing)


def test_a_trial_that_cannot_publish_its_steps_is_recorded_as_failed(monkeypatch, tmp_path):
    run = new_run(tmp_path)
    refuse(monkeypatch, "steps", "gradient-0000-a0", SchemaError("column gradient_norm must be finite"))
    account, _ = drive_here(run)
    assert [unit.key for unit, _ in account.problems] == ["gradient-0000"]
    row = pd.read_parquet(run.path / "trials").set_index("trial_id").loc["gradient-0000"]
    assert row["status"] == "failed"
    assert "column gradient_norm must be finite" in row["error"]
    monkeypatch.undo()
    assert drive_here(run)[1].events == []


def test_a_full_disk_ends_the_run_at_once_and_a_resume_goes_on(monkeypatch, undisturbed, tmp_path):
    run = new_run(tmp_path)
    publish = Store.publish

    def full(self, table, key, found):
        if key.startswith("gradient-0001"):
            raise StoreError("could not publish: No space left on device")
        return publish(self, table, key, found)

    monkeypatch.setattr(Store, "publish", full)
    with pytest.raises(StoreError, match="No space left on device"):
        drive_here(run)
    monkeypatch.undo()
    assert sorted(pd.read_parquet(run.path / "trials")["trial_id"]) == ["evolution-0000", "gradient-0000"]
    account, told = drive_here(run)
    assert account.skipped == 2
    assert len(told.finished) == UNITS - 2
    assert_same_rows(run.path, undisturbed.path)


def test_a_run_that_somebody_drives_is_left_alone(tmp_path):
    run = new_run(tmp_path)
    with driver_lock(run), pytest.raises(RunFolderError, match=f"is being driven by process {os.getpid()} on"):
        drive_here(run)
    assert parts(run) == {}


def test_leftovers_of_killed_workers_are_cleared(undisturbed):
    left = undisturbed.path / "logs" / "gradient-0000.progress.json"
    left.write_text("{}")
    drive_here(undisturbed)
    assert not left.exists()


def test_work_in_this_process_uses_the_threads_of_the_configuration(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = new_run(tmp_path, method="gradient", search={"trials": 1}, evaluation={"best": 0})
        drive_here(run)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert pd.read_parquet(run.path / "trials")["threads"].tolist() == [1]


def test_what_was_run_before_is_known_by_the_attempt_that_counts(tmp_path):
    run = new_run(tmp_path, search={"wave": 1, "trials": 4})
    config = RunConfig.model_validate(run.info.config)

    def publish(number, attempt, status, score=None):
        key = f"gradient-{number:04d}"
        row = {"trial_id": key, "method": "gradient", "number": number, "params": '{"inner_lr": 0.01}'}
        row |= {"attempt": attempt, "status": status, "score": score}
        run.store.publish("trials", f"{key}-a{attempt}", [row])

    publish(0, 0, "killed")
    publish(0, 1, "ok", 0.5)
    publish(1, 0, "failed")
    publish(2, 0, "ok", 0.6)  # late, by a worker that outlived its driver
    publish(2, 1, "failed")
    publish(3, 0, "killed")
    publish(3, 1, "oom")
    finished, attempts = trials_so_far(config, run.store)
    assert {key: (one.outcome.status, one.outcome.score) for key, one in finished.items()} == {
        "gradient-0000": ("ok", 0.5),
        "gradient-0001": ("failed", PENALTY),  # later trials were sampled with its failure known
        "gradient-0002": ("ok", 0.6),
    }
    assert finished["gradient-0000"].params == {"inner_lr": 0.01}
    assert attempts == {"gradient-0003": 2}


def test_the_choice_between_here_and_ray_is_the_number_of_workers(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr("search.tune.run_with_ray", lambda plan, work, **options: asked.update(options, work=work))
    run = new_run(tmp_path)
    resources = RunConfig.model_validate(run.info.config).resources.model_copy(
        update={"workers": 3, "threads": 2, "workers_per_trial": 4}
    )
    account = drive(run, resources, lambda plan, account: lambda *_: None, address="auto")
    assert (asked["work"], asked["workers"], asked["threads"], asked["address"]) == (
        "search.work:do_unit",
        3,
        2,
        "auto",
    )
    assert (asked["workers_per_unit"], asked["gpus_per_unit"], asked["gpus_per_worker"]) == (4, 0.0, 0.0)
    driver = asked["work_args"].pop("driver")
    assert len(driver) == 32
    assert asked["work_args"] == {"run": str(run.path), "device": "cpu", "checkpoint_seconds": 60.0, "memory": 0}
    assert asked["deadline"](Unit("gradient-0000", payload={"kind": "trial"})) is None
    assert asked["shard_limits"] == ShardLimits()
    assert account.interrupted
