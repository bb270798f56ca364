"""Runs that go on otherwise than they were made: more trials, a wider space, other code; and replayed trials."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load_run
from ldnn_core.tasks import DataError
from search import provenance, same_code
from search.config import RunConfig, canonical, trial_config
from search.config_errors import ConfigError
from search.data_checksum import data_checksum, require_same_data
from search.extension import completed, require_extension
from search.launch import drive
from search.lineage import revise
from search.plan import Unit
from search.provenance import config_hash
from search.replay import replay
from search.run_folder import RunFolder, RunFolderError, difference, open_run
from search.store import StoreError
from search.work import do_unit
from tests.small_runs import Listener, assert_same_rows, drive_here, new_run, rows, tiny_run

RATES = {"inner_lr": {"low": 3e-3, "high": 3e-2, "log": True}}
SEARCH: dict[str, Any] = {"trials": 3, "wave": 2, "startup_trials": 1, "space": RATES}
SMALL: dict[str, Any] = {
    "method": "gradient",
    "gradient": {"outer_steps": 2},
    "search": SEARCH,
    "evaluation": {"widths": [6], "usual": []},
}


def extended(run: RunFolder, **search: Any) -> RunFolder:
    """The run with another search section, as `ldnn extend` makes it."""
    before = RunConfig.model_validate(run.info.config)
    after = tiny_run(**{**SMALL, "search": {**SEARCH, **search}})
    changes = difference(before.model_dump(mode="json"), after.model_dump(mode="json"))
    first = require_extension(before, after, [one.key for one in changes], run.path)
    revise(run, after.model_dump(mode="json"), reason="extended", changes=changes, first_trial=first)
    return open_run(run.path)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of three trials in waves of two, so that its last wave is not full."""
    run = new_run(tmp_path_factory.mktemp("three"), **SMALL)
    drive_here(run)
    return run


@pytest.fixture
def run(three: RunFolder, tmp_path: Path) -> RunFolder:
    return open_run(Path(shutil.copytree(three.path, tmp_path / "tiny")))


# More trials


def test_a_run_that_was_extended_has_the_rows_of_one_with_so_many_trials_from_the_start(run: RunFolder, tmp_path: Path):
    before = {path: path.read_bytes() for path in run.path.glob("*/part-*")}
    account, told = drive_here(extended(run, trials=6))
    assert told.finished[:3] == ["gradient-0003", "gradient-0004", "gradient-0005"]
    assert account.skipped == 3
    assert {path: path.read_bytes() for path in before} == before
    whole = new_run(tmp_path / "whole", **{**SMALL, "search": {**SEARCH, "trials": 6}})
    drive_here(whole)
    for table in ("trials", "steps", "activations"):
        pd.testing.assert_frame_equal(rows(run.path, table), rows(whole.path, table), check_exact=True)


def test_every_row_keeps_a_hash_that_follows_from_the_configurations_of_the_run(run: RunFolder):
    run = extended(run, trials=4)
    drive_here(run)
    for row in pd.read_parquet(run.path / "trials").itertuples():
        # Of any of the configurations: what a revision may change is no part of a trial's.
        hashes = {
            config_hash(
                canonical(trial_config(RunConfig.model_validate(one), "gradient", row.number, json.loads(row.params)))
            )
            for one in run.configs
        }
        assert hashes == {row.config_hash}
    of_runs = [config_hash(canonical(RunConfig.model_validate(one))) for one in run.configs]
    assert len(of_runs) == 2
    evaluations = pd.read_parquet(run.path / "evaluations")
    assert set(evaluations["config_hash"]) <= set(of_runs)


def test_readers_see_the_present_configuration_and_run_json_stays(run: RunFolder):
    before = (run.path / "run.json").read_bytes()
    now = extended(run, trials=5)
    assert (run.path / "run.json").read_bytes() == before
    assert (now.info.run_id, now.info.config["search"]["trials"]) == (run.info.run_id, 5)
    assert now.made == run.info
    assert load_run(run.path).config["search"]["trials"] == 5
    [revision] = now.revisions
    assert revision.changes == [{"key": "search.trials", "old": 3, "new": 5}]
    assert (revision.follows, revision.first_trial) == (run.info.config_hash, None)
    twice = extended(now, trials=7)
    assert [one.number for one in twice.revisions] == [1, 2]
    assert [config["search"]["trials"] for config in twice.configs] == [3, 5, 7]


# A wider space


WIDER = {"inner_lr": {"low": 1e-3, "high": 0.1, "log": True}, "outer_lr": {"low": 0.1, "high": 1.0}}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_wider_space_begins_with_the_next_wave_and_a_resume_samples_what_a_whole_run_does(
    sampler: str, tmp_path: Path
):
    found = []
    for name, stops in (("whole", 0), ("stopped", 6)):
        run = new_run(tmp_path / name, **{**SMALL, "search": {**SEARCH, "sampler": sampler}})
        drive_here(run)
        run = extended(run, sampler=sampler, trials=8, space=WIDER)
        assert run.revisions[0].first_trial == 4
        for _ in range(stops):  # a unit at a time
            asked = iter([False, True])
            drive_here(open_run(run.path), stop=lambda asked=asked: next(asked, True))  # type: ignore[misc]
        drive_here(open_run(run.path))
        found.append(run)
    assert_same_rows(found[0].path, found[1].path)
    sampled = [set(json.loads(one)) for one in rows(found[0].path, "trials")["params"]]
    assert sampled == [{"inner_lr"}] * 4 + [{"inner_lr", "outer_lr"}] * 4
    rates = rows(found[0].path, "trials")["inner_lr"]
    assert rates[:4].between(3e-3, 3e-2).all()
    assert rates[4:].between(1e-3, 0.1).all()


def test_earlier_trials_are_points_of_the_wider_space_with_the_value_that_they_had():
    config = tiny_run(**{**SMALL, "search": {**SEARCH, "space": WIDER}})
    assert completed(config, "gradient", {"inner_lr": 0.01}) == {"inner_lr": 0.01, "outer_lr": 0.4}
    assert completed(config, "gradient", {"inner_lr": 0.01, "outer_lr": 0.9})["outer_lr"] == 0.9


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"trials": 3}, "search.trials = 3: must be more than the 3 that the run has"),
        ({"trials": 2}, "search.trials = 2: must be more than"),
        ({"trials": 9, "records": 3}, "search.records: only more trials and a wider space extend a run"),
        ({"trials": 9, "wave": 3}, "`ldnn fork somewhere --set ...` makes another"),
        ({"trials": 9, "space": {}}, "search.space.inner_lr: must hold all that it held before, {low = 0.003,"),
        ({"trials": 9, "space": {"inner_lr": {"low": 4e-3, "high": 1.0, "log": True}}}, "must hold all that it held"),
        ({"trials": 9, "space": {"inner_lr": {"low": 1e-3, "high": 1.0}}}, "on the same scale"),
        ({"trials": 9, "space": {"inner_lr": {"choices": [0.01]}}}, "must hold all that it held before"),
        (
            {"trials": 9, "space": {**RATES, "outer_lr": {"low": 0.5, "high": 1.0}}},
            "search.space.outer_lr: must hold the",
        ),
    ],
)
def test_what_is_no_extension_is_refused(search: dict[str, Any], words: str):
    before, after = tiny_run(**SMALL), tiny_run(**{**SMALL, "search": {**SEARCH, **search}})
    changed = [one.key for one in difference(before.model_dump(mode="json"), after.model_dump(mode="json"))]
    with pytest.raises(ConfigError) as refused:
        require_extension(before, after, changed, "somewhere")
    assert words in str(refused.value)


@pytest.mark.parametrize("low", [0.3, 0.2, 0.1])
def test_a_space_that_grows_by_whole_steps_is_wider_whatever_rounding_says(low: float):
    before = tiny_run(**{**SMALL, "search": {**SEARCH, "space": {"outer_lr": {"low": 0.3, "high": 0.5, "step": 0.1}}}})
    wider = {"outer_lr": {"low": low, "high": 0.9, "step": 0.1}}
    after = tiny_run(**{**SMALL, "search": {**SEARCH, "trials": 9, "space": wider}})
    assert require_extension(before, after, ["search.trials", "search.space"], "x") == 4


def test_a_sampler_whose_memory_has_the_shape_of_the_space_keeps_it():
    search = {**SEARCH, "sampler": "qmc"}
    before = tiny_run(**{**SMALL, "search": search})
    after = tiny_run(**{**SMALL, "search": {**search, "trials": 9, "space": WIDER}})
    with pytest.raises(ConfigError, match="the space cannot grow with the sampler qmc"):
        require_extension(before, after, ["search.trials", "search.space"], "x")


# Revisions on disk


def test_a_revision_that_was_edited_removed_or_torn_is_refused(run: RunFolder):
    extended(extended(run, trials=4), trials=5)
    first, second = sorted((run.path / "lineage").iterdir())
    kept = first.read_bytes()
    first.unlink()
    with pytest.raises(RunFolderError, match=r"0002\.json was edited or does not follow from what is before it"):
        open_run(run.path)
    first.write_bytes(kept.replace(b'"trials": 4', b'"trials": 9'))
    with pytest.raises(RunFolderError, match=r"lineage/0001\.json was edited"):
        open_run(run.path)
    first.write_bytes(kept)
    second.write_bytes(second.read_bytes()[:50])
    with pytest.raises(RunFolderError, match=r"lineage/0002\.json is damaged \(JSONDecodeError.*Put its backup back"):
        open_run(run.path)


def test_of_two_that_revise_at_once_the_second_is_told(run: RunFolder):
    extended(run, trials=4)
    with pytest.raises(StoreError, match="was changed by another process meanwhile"):
        revise(run, run.info.config, reason="extended", changes=[])


# Other code


def other(monkeypatch: pytest.MonkeyPatch, *, version: str | None, digest: str = "0" * 16) -> None:
    monkeypatch.setattr("search.same_code.code_digest", lambda: digest)
    monkeypatch.setattr("search.lineage.code_digest", lambda: digest)
    for module in ("same_code", "lineage"):
        now = version or provenance.code_version()[0]
        monkeypatch.setattr(f"search.{module}.code_version", lambda now=now: (now, False))


def test_missing_trials_are_not_run_by_other_code(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    run = extended(run, trials=4)
    other(monkeypatch, version="9.9+gabc")
    then = run.info.code_version.replace("+", r"\+")
    with pytest.raises(RunFolderError, match=rf"made by other code:\n  code_version: {then} -> 9\.9\+gabc"):
        drive_here(run)
    assert len(list((run.path / "trials").iterdir())) == 3
    account, _ = drive_here(run, other_code=True)
    assert account.problems == []
    assert any("not that which the run was made with: code_version:" in one for one in account.warnings)
    now = open_run(run.path)
    assert (now.revisions[-1].reason, now.info.code_version) == ("other code", "9.9+gabc")
    assert now.info.config == run.info.config
    # It is said once: from then on that is the code of the run.
    assert drive_here(extended(now, trials=5))[0].warnings == []


def test_a_finished_run_is_looked_at_with_any_code(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    other(monkeypatch, version="9.9+gabc")
    account, told = drive_here(run)
    assert (told.events, account.warnings) == ([], [])


def test_edited_files_of_the_same_version_are_warned_of(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    run = extended(run, trials=4)
    other(monkeypatch, version=None)
    account, _ = drive_here(run)
    [warning] = account.warnings
    assert "uncommitted changes" in warning


def test_other_libraries_are_warned_of(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    run = extended(run, trials=4)
    monkeypatch.setattr(same_code, "library_versions", lambda: {**run.info.versions, "torch": "0.0"})
    account, _ = drive_here(run)
    assert f"torch {run.info.versions['torch']} -> 0.0" in account.warnings[0]


def test_the_digest_of_the_code_changes_with_any_source_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("ldnn_core", "search", "analysis"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "one.py").write_text("x = 1")
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)

    def digest() -> str:
        provenance.code_digest.cache_clear()
        return provenance.code_digest()

    try:
        first = digest()
        (tmp_path / "analysis" / "one.py").write_text("x = 2")
        (tmp_path / "README.md").write_text("words")
        assert digest() == first
        (tmp_path / "search" / "one.py").write_text("x = 2")
        second = digest()
        (tmp_path / "search" / "one.py").rename(tmp_path / "search" / "two.py")
        assert len({first, second, digest()}) == 3
    finally:
        provenance.code_digest.cache_clear()


# Other data


def test_data_have_a_checksum_that_changes_with_any_bit():
    from search.setting import load_task

    data = load_task(tiny_run().task, "cpu")
    first = data_checksum(data)
    assert data_checksum(load_task(tiny_run(task={"samples": 1200}).task, "cpu")) != first
    flipped = data.to("cpu")
    object.__setattr__(flipped, "test", type(data.test)(data.test.x.clone(), data.test.y))
    flipped.test.x[-1, -1] += 1e-6
    assert data_checksum(flipped) != first
    require_same_data("mnist1d", first, first)
    require_same_data("mnist1d", first, None)


def test_a_run_with_other_data_is_not_gone_on_with_and_its_workers_compute_nothing(run: RunFolder):
    content = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(content | {"data_checksum": "0" * 16}))
    drive_here(open_run(run.path))  # nothing is missing
    run = extended(open_run(run.path), trials=4)
    words = "the data of task mnist1d must be those that the run was made with \\(checksum 0000"
    with pytest.raises(DataError, match=words):
        drive_here(run)
    payload = {"kind": "trial", "method": "gradient", "number": 3, "params": {"inner_lr": 0.01}}
    with pytest.raises(DataError, match=words):
        do_unit(Unit("gradient-0003", 0, payload), run=str(run.path), device="cpu")
    assert len(list((run.path / "trials").iterdir())) == 3


# Replay


@pytest.mark.parametrize("trial", ["gradient-0001", "evolution-0000"])
def test_a_replayed_trial_is_equal_to_the_bit(undisturbed: RunFolder, trial: str):
    before = sorted(undisturbed.path.rglob("*"))
    found = replay(undisturbed, trial)
    assert (found.equal, found.differences) == (True, [])
    assert found.compared == {"trials": 1, "steps": 4 if trial.startswith("gradient") else 3, "activations": 4}
    assert sorted(undisturbed.path.rglob("*")) == before


def test_a_replay_says_what_differs_column_by_column(run: RunFolder):
    store = run.store
    [steps] = [store.read("steps", keys=["gradient-0001-a0"]).to_pylist()]
    [trial] = store.read("trials", keys=["gradient-0001-a0"]).to_pylist()
    for table in ("steps", "trials"):
        (run.path / table / "part-gradient-0001-a0.parquet").unlink()
    steps[0]["outer_loss"] += 0.25
    steps[1]["outer_loss"] -= 0.5
    trial["base"] = "sin"
    store.publish("steps", "gradient-0001-a0", steps)
    store.publish("trials", "gradient-0001-a0", [trial])
    found = replay(run, "gradient-0001")
    assert not found.equal
    assert [str(one) for one in found.differences] == [
        "trials.base: 1 rows differ, sin -> tanh",
        "steps.outer_loss: 2 rows differ, by at most 0.5",
    ]


def test_a_trial_without_numbers_of_its_own_is_not_replayed(run: RunFolder):
    with pytest.raises(ValueError, match=r"there is no trial 'gradient-0009' in .*`ldnn status .*` lists them"):
        replay(run, "gradient-0009")
    row = {"trial_id": "gradient-0003", "attempt": 0, "method": "gradient", "number": 3}
    run.store.publish("trials", "gradient-0003-a0", [row | {"status": "killed", "error": "its process died"}])
    with pytest.raises(ValueError, match=r"gradient-0003 ended killed \(its process died\), which depends on machines"):
        replay(run, "gradient-0003")
    run.store.publish(
        "trials", "gradient-0003-a1", [row | {"attempt": 1, "status": "ok", "copied_from": "gradient-0000"}]
    )
    with pytest.raises(ValueError, match="is a copy of gradient-0000 and was not run itself: replay gradient-0000"):
        replay(run, "gradient-0003")


def test_pruned_and_diverged_trials_are_replayed_to_their_end(tmp_path: Path):
    search = {"trials": 4, "wave": 4, "scheduler": "halving", "reduction": 2, "rungs": 2, "space": RATES}
    run = new_run(tmp_path, method="gradient", gradient={"outer_steps": 8}, search=search, evaluation={"best": 0})
    config = RunConfig.model_validate(run.info.config)
    drive(run, config.resources, Listener())
    ended = pd.read_parquet(run.path / "trials").set_index("trial_id")["status"]
    assert (ended == "pruned").sum() >= 2
    for trial in ended.index:
        assert replay(run, trial).differences == []
    hostile = {"ldnn": {"base": "relu"}, "inner": {"optimizer": "sgd", "lr": 1e6}}
    bad = new_run(tmp_path / "bad", **hostile, search={"trials": 1, "space": {}}, evaluation={"best": 0})
    drive_here(bad)
    assert replay(bad, "gradient-0000").equal
