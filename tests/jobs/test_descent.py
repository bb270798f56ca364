"""The commands extend, fork, replay and status: what they answer, and with which exit code."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from jobs import running
from jobs.status import failures, trials_per_hour
from search.run_folder import open_run
from tests.jobs.calls import ldnn
from tests.small_runs import drive_here, new_run, rows


@pytest.fixture(autouse=True)
def _no_figures(undisturbed, monkeypatch):
    monkeypatch.setattr(running, "_write_report", lambda run: run.path / "report" / "index.html")


@pytest.fixture
def copy(undisturbed, tmp_path):
    return shutil.copytree(undisturbed[0], tmp_path / "copied" / "tiny")


def test_a_run_is_extended_and_says_what_changed(copy):
    answer = ldnn("extend", copy, "--trials", 3, "--set", "search.space.inner_lr.high=0.05")
    assert answer.code == 0, answer.err
    assert "Extended tiny-" in answer.out
    assert "  search.space.inner_lr.high: 0.03 -> 0.05\n  search.trials: 2 -> 3\n" in answer.out
    assert "4 of" in answer.err  # trials that are there
    assert [path.name for path in (copy / "lineage").iterdir()] == ["0001.json"]
    found = ldnn("status", copy, "--json").json
    assert [trial["state"] for trial in found["trials"]] == ["ok"] * 6
    [revision] = found["revisions"]
    assert (revision["reason"], revision["changes"][1]) == ("extended", {"key": "search.trials", "old": 2, "new": 3})
    assert re.search(
        r"extended: search\.space\.inner_lr\.high: 0\.03 -> 0\.05, search\.trials: 2 -> 3", ldnn("status", copy).out
    )


def test_what_is_no_extension_is_refused_before_anything_is_written(copy):
    before = sorted(copy.rglob("*"))
    answer = ldnn("extend", copy, "--trials", 2, "--set", "seed=4")
    assert answer.code == 2
    assert "search.trials = 2: must be more than the 2 that the run has" in answer.err
    assert "seed: only more trials and a wider space extend a run" in answer.err
    assert f"`ldnn fork {copy} --set ...` makes another" in " ".join(answer.err.split())
    assert sorted(copy.rglob("*")) == before


def test_resuming_with_more_trials_extends_and_with_those_of_before_goes_on(copy, recipe):
    more = ldnn("search", recipe, "--out", copy.parent, "--resume", "--set", "search.trials=3")
    assert more.code == 0, more.err
    assert "search.trials: 2 -> 3" in more.out
    # The recipe as it was: nothing is left to do, and nothing is taken back.
    again = ldnn("search", recipe, "--out", copy.parent, "--resume", "--json")
    assert (again.code, again.json["finished"]) == (0, 0)
    assert len(open_run(copy).revisions) == 1


def test_a_changed_configuration_is_forked_with_the_differences_said_and_recorded(copy, recipe):
    refused = ldnn("search", recipe, "--out", copy.parent, "--resume", "--set", "gradient.momentum=0.5")
    assert refused.code == 2
    assert "gradient.momentum: 0.8 -> 0.5" in refused.err
    assert f"`ldnn search RECIPE --fork {copy}`" in refused.err
    arguments = ["--set", "gradient.momentum=0.5", "--set", "evaluation.best=0", "--set", "method=gradient"]
    answer = ldnn("search", recipe, "--out", copy.parent, "--fork", copy, *arguments)
    assert answer.code == 0, answer.err
    origin, made = open_run(copy), open_run(copy.parent / "tiny-fork1")
    assert f"Fork of {origin.info.run_id}: {made.path}" in answer.out
    assert "gradient.momentum: 0.8 -> 0.5" in answer.out
    assert made.info.lineage == origin.info.run_id
    assert {one["key"]: one["new"] for one in made.info.changes} == {
        "evaluation.best": 0, "gradient.momentum": 0.5, "method": "gradient", "name": "tiny-fork1",
    }  # fmt: skip
    assert len(list((made.path / "trials").iterdir())) == 2
    assert origin.info.data_checksum == made.info.data_checksum is not None


def test_a_fork_of_a_run_has_its_configuration_and_a_name_of_its_own(copy, undisturbed):
    answer = ldnn("fork", copy, "--workers", 0, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["run"] == str(copy.parent / "tiny-fork1")
    for table in ("trials", "steps", "activations"):  # networks that are judged have the hash of the run, with its name
        pd.testing.assert_frame_equal(rows(copy.parent / "tiny-fork1", table), rows(undisturbed[0], table))
    named = ldnn("fork", copy, "--set", "name=mine", "--set", "search.trials=1", "--set", "evaluation.best=0", "--json")
    assert (named.code, named.json["run"]) == (0, str(copy.parent / "mine"))


def test_a_replay_says_equal_or_how_different(copy):
    answer = ldnn("replay", copy, "--trial", "gradient-0001")
    assert (answer.code, answer.out) == (
        0,
        "gradient-0001 is equal to the bit: rows 1 of trials, 4 of steps, 4 of activations.\n",
    )
    run = open_run(copy)
    [row] = run.store.read("trials", keys=["gradient-0001-a0"]).to_pylist()
    (copy / "trials" / "part-gradient-0001-a0.parquet").unlink()
    run.store.publish("trials", "gradient-0001-a0", [row | {"score": row["score"] + 0.125}])
    answer = ldnn("replay", copy, "--trial", "gradient-0001")
    assert answer.code == 1
    assert "trials.score: 1 rows differ, by at most 0.125" in answer.out
    assert "libraries that differ: none" in answer.out
    found = ldnn("replay", copy, "--trial", "gradient-0001", "--json")
    assert (found.code, found.json["equal"], found.json["differences"][0]["column"]) == (1, False, "score")
    assert ldnn("replay", copy, "--trial", "gradient-0009").code == 2


def test_data_that_cannot_be_had_are_said_before_a_run_is_made(recipe, tmp_path, monkeypatch):
    from ldnn_core.tasks import DataError, Mnist1d
    from search.data_checksum import task_checksum

    task_checksum.cache_clear()

    def gone(self, cache):
        raise DataError("the cached data set is damaged; delete it and run again")

    monkeypatch.setattr(Mnist1d, "load", gone)
    answer = ldnn("search", recipe, "--out", tmp_path)
    assert answer.code == 2
    assert "the cached data set is damaged; delete it and run again" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_other_data_is_not_extended(copy):
    content = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(content | {"data_checksum": "0" * 16}))
    answer = ldnn("extend", copy, "--trials", 3)
    assert answer.code == 2
    assert "the data of task mnist1d must be those that the run was made with (checksum 0000000000000000)" in answer.err
    assert not (copy / "lineage").exists()


def test_a_run_that_gave_up_says_why_with_exit_code_1(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("search.work.run_trial", lambda *_, **__: 1 / 0)
    answer = ldnn("search", recipe, "--out", tmp_path, "--set", "search.max_failures=2")
    assert answer.code == 1
    assert "Stopped: 2 trials have failed (search.max_failures)" in answer.out
    assert "ZeroDivisionError" in answer.out
    found = ldnn("status", tmp_path / "tiny", "--json").json
    assert [(one["status"], one["count"], one["first"]) for one in found["failures"]] == [
        ("failed", 2, "evolution-0000")
    ]
    assert "2 attempts failed, first evolution-0000: ZeroDivisionError" in ldnn("status", tmp_path / "tiny").out


# Status


def row(number, seconds, status="ok", **columns):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    plain = {
        "trial_id": f"gradient-{number:04d}",
        "attempt": 0,
        "wall_seconds": 60.0,
        "copied_from": None,
        "error": None,
    }
    return {**plain, "status": status, "created_at": start + timedelta(seconds=seconds), **columns}


def test_the_rate_is_that_of_recent_ends_without_pauses_and_copies():
    assert trials_per_hour([row(0, 0)]) is None
    steady = [row(number, 60 * number) for number in range(5)]
    assert trials_per_hour(steady) == pytest.approx(60)
    paused = [*steady, row(5, 100_000), row(6, 100_060)]
    assert trials_per_hour(paused) == pytest.approx(60)
    assert trials_per_hour(
        [*steady, *(row(10 + i, 241, copied_from="gradient-0000") for i in range(9))]
    ) == pytest.approx(60)
    two_at_a_time = [row(number, 60 * (number // 2)) for number in range(8)]
    assert trials_per_hour(two_at_a_time) == pytest.approx(7 / 180 * 3600)


def test_failures_are_counted_by_their_reasons_whatever_the_numbers_in_them():
    rows = [
        row(0, 0),
        row(1, 1, "timeout", error="after step 3: 5.1 s are more"),
        row(2, 2, "timeout", error="after step 77: 5.4 s are more"),
        row(3, 3, "diverged", error="all candidates"),
        row(4, 4, "killed"),
    ]
    assert failures(rows) == [
        {"status": "timeout", "count": 2, "words": "after step 3: 5.1 s are more", "first": "gradient-0001"},
        {"status": "diverged", "count": 1, "words": "all candidates", "first": "gradient-0003"},
        {"status": "killed", "count": 1, "words": "no reason is known", "first": "gradient-0004"},
    ]


def test_status_says_rate_time_left_and_what_lies_where(tmp_path):
    run = new_run(tmp_path)
    asked = iter([False, False, True])
    drive_here(run, stop=lambda: next(asked, True))
    (run.path / "quarantine" / "steps").mkdir()
    for name in ("part-x.parquet", "part-x.parquet.json"):
        (run.path / "quarantine" / "steps" / name).write_text("x")
    found = ldnn("status", run.path, "--json").json
    assert found["trials_per_hour"] > 0
    assert found["hours_left"] == pytest.approx(2 / found["trials_per_hour"])
    assert found["quarantined_parts"] == 1
    assert set(found["disk_bytes_by_folder"]) >= {"trials", "steps", "activations", "quarantine", "."}
    assert sum(found["disk_bytes_by_folder"].values()) == found["disk_bytes"]
    said = ldnn("status", run.path).out
    assert re.search(r"^[\d.]+ trials an hour; the trials that are left take about \d+", said, re.MULTILINE)
    assert "1 files in quarantine, each with a report beside it." in said
