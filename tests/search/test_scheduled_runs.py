"""Runs under a scheduler, and runs with equal trials: the same rows however often they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search import checkpoint
from search.durable import CRASH_EXIT
from search.found_set import best_trials, found_set
from search.gradient import search_by_gradient
from search.plan import PENALTY, Outcome
from search.run_folder import RunFolder, open_run
from search.schema import Status
from search.work import do_unit
from tests.small_runs import drive_here, merged, new_run, rows

ROOT = Path(__file__).resolve().parents[2]
BASE: dict[str, Any] = {
    "gradient": {"outer_steps": 8},
    "evolution": {"generations": 9},
    "search": {"trials": 8, "wave": 4, "reduction": 2, "rungs": 2, "records": 9},
    "evaluation": {"best": 0},
}
"""Every step is recorded, so that a scheduler adds no record; rungs after 2 and 4 of the outer steps."""

DIVERGING = {"ldnn": {"base": "relu"}, "inner": {"optimizer": "sgd"}}


def scheduled(parent: Path, scheduler: str, **changes: Any) -> RunFolder:
    return new_run(parent, **merged(merged(BASE, {"search": {"scheduler": scheduler}}), changes))


def trials_of(run: RunFolder) -> pd.DataFrame:
    return pd.read_parquet(run.path / "trials").sort_values(["trial_id", "attempt"]).set_index("trial_id")


def assert_same_trials(run: RunFolder, other: RunFolder) -> None:
    """All trials of the one have the rows that they have in the other, but for times."""
    names = set(trials_of(run).index)
    for table in ("trials", "steps", "activations"):
        expected = rows(other.path, table)
        expected = expected[expected["trial_id"].isin(names)].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows(run.path, table), expected, check_exact=True, obj=table)


ONE_WAVE: dict[str, Any] = {"method": "gradient", "search": {"trials": 4}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A run by each scheduler that was never disturbed."""
    made = {}
    for scheduler in ("none", "asha", "halving"):
        # The first wave is all that is compared with trials without a scheduler.
        changes = {"search": {"trials": 4}} if scheduler == "none" else {}
        made[scheduler] = scheduled(tmp_path_factory.mktemp(scheduler), scheduler, **changes)
        account, _ = drive_here(made[scheduler])
        assert (account.interrupted, account.problems) == (False, [])
        assert account.finished == len(trials_of(made[scheduler])) == (8 if scheduler == "none" else 16)
    return made


def test_halving_lets_one_trial_of_a_wave_end_well(whole: dict[str, RunFolder]):
    trials = trials_of(whole["halving"]).reset_index()
    waves = trials.assign(wave=trials["number"] // 4, reached=trials["rung_accuracies"].map(len))
    for _, wave in waves.groupby(["method", "wave"]):
        assert sorted(wave["status"]) == ["ok", "pruned", "pruned", "pruned"]
        assert sorted(wave["reached"]) == [1, 1, 2, 2]
        for rung in range(2):
            at_rung = wave[wave["reached"] > rung]
            went_on = at_rung[(at_rung["reached"] > rung + 1) | (at_rung["status"] == "ok")]
            first, best = at_rung["rung_accuracies"].map(lambda all_, rung=rung: all_[rung]), went_on.index
            assert first[best].min() >= first.drop(best).max()
            stopped = at_rung[(at_rung["reached"] == rung + 1) & (at_rung["status"] == "pruned")]
            assert set(stopped["rung_threshold"]) == {first[best].min()}
    assert trials[trials["status"] == "ok"]["rung_threshold"].isna().all()
    assert trials[trials["status"] == "pruned"]["score"].isna().all()


def test_asha_stops_trials_of_later_waves_alone(whole: dict[str, RunFolder]):
    trials = trials_of(whole["asha"])
    pruned = trials[trials["status"] == "pruned"]
    assert len(pruned)
    assert (pruned["number"] >= 4).all()
    assert (pruned["rung_accuracies"].map(lambda reached: reached[-1]) < pruned["rung_threshold"]).all()


@pytest.mark.parametrize("scheduler", ["asha", "halving"])
def test_rung_accuracies_are_those_of_the_steps(whole: dict[str, RunFolder], scheduler: str):
    steps = pd.read_parquet(whole[scheduler].path / "steps").set_index(["trial_id", "step"])["val_accuracy"]
    rungs = {"gradient": (2, 4), "evolution": (1, 3)}
    for trial_id, trial in trials_of(whole[scheduler]).iterrows():
        reached = list(trial["rung_accuracies"])
        assert reached == [steps[trial_id, step] for step in rungs[trial["method"]][: len(reached)]]


@pytest.mark.parametrize("scheduler", ["asha", "halving"])
def test_trials_have_the_rows_that_they_have_without_a_scheduler(whole: dict[str, RunFolder], scheduler: str):
    """Of the first wave, whose parameters are the same; up to where they were stopped."""
    compared = 0
    for table in ("steps", "activations"):
        found, expected = rows(whole[scheduler].path, table), rows(whole["none"].path, table)
        for number in range(4):
            for method in ("gradient", "evolution"):
                own = found[found["trial_id"] == f"{method}-{number:04d}"].reset_index(drop=True)
                plain = expected[expected["trial_id"] == f"{method}-{number:04d}"].reset_index(drop=True)
                pd.testing.assert_frame_equal(own, plain.iloc[: len(own)], check_exact=True)
                compared += len(own) == len(plain)
    assert compared == (16 if scheduler == "asha" else 4)  # tables of trials that ran to their end
    same = ["score", "score_sem", "inner_steps_total", "outer_steps", "params", "seed"]
    plain = trials_of(whole["none"])[same]
    ended = trials_of(whole[scheduler]).query("status == 'ok' and number < 4")
    pd.testing.assert_frame_equal(ended[same], plain.loc[ended.index], check_exact=True)


def test_checkpoints_are_gone_when_a_run_has_ended(whole: dict[str, RunFolder]):
    for run in whole.values():
        assert not (run.path / "checkpoints").exists()


@pytest.mark.parametrize(("scheduler", "units", "changes"), [("asha", 5, {}), ("halving", 1, ONE_WAVE)])
def test_a_run_stopped_again_and_again_has_the_same_rows(
    whole: dict[str, RunFolder], scheduler: str, units: int, changes: dict[str, Any], tmp_path: Path
):
    run, reached = scheduled(tmp_path, scheduler, **changes), set[int]()
    for _ in range(30):
        asked = iter([False] * units)
        account, told = drive_here(run, stop=lambda asked=asked: next(asked, True))  # type: ignore[misc]
        reached |= set(checkpoint.rungs_reached(run.path).values())
        if not account.interrupted:
            break
        assert len(told.finished) == units
    assert reached == ({0, 1} if scheduler == "halving" else set())
    assert len(trials_of(run)) == (4 if changes else 16)
    assert_same_trials(run, whole[scheduler])


_DIE = """
import sys
from pathlib import Path
from search.run_folder import open_run
from tests.small_runs import drive_here
drive_here(open_run(Path(sys.argv[1])))
"""


def test_a_run_killed_at_each_rung_and_damaged_has_the_same_rows(whole: dict[str, RunFolder], tmp_path: Path):
    run = scheduled(tmp_path, "halving", **ONE_WAVE)
    last = trials_of(whole["halving"]).query("method == 'gradient' and number < 4 and status == 'ok'").iloc[0]
    name = f"{last.name}-{last['config_hash']}"
    rung = f"checkpoints/{name}-r"
    for point in (f"linked@{rung}0", f"published@{rung}1"):
        died = subprocess.run(
            [sys.executable, "-c", _DIE, str(run.path)],
            cwd=ROOT,
            env={**os.environ, "LDNN_CRASH_POINT": point},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert died.returncode == CRASH_EXIT, died.stderr
    # Of the trial that would go on, one file is damaged and one is lost.
    files = sorted((run.path / "checkpoints").glob(f"{last.name}*"))
    assert [path.name for path in files] == [f"{name}-r0.safetensors", f"{name}-r1.safetensors"]
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].unlink()
    account, _ = drive_here(open_run(run.path))
    assert not account.interrupted
    assert_same_trials(run, whole["halving"])
    assert len(trials_of(run)) == 4


@pytest.mark.parametrize("scheduler", ["asha", "halving"])
def test_diverged_trials_stop_themselves_and_lose(scheduler: str, tmp_path: Path):
    space = {"inner_lr": {"choices": [1e6, 1e-3]}}
    run = scheduled(tmp_path, scheduler, method="gradient", search={"space": space, "sampler": "random"}, **DIVERGING)
    account, _ = drive_here(run)
    assert not account.interrupted
    trials = trials_of(run)
    diverged = trials["inner_lr"] == 1e6
    assert set(trials[diverged]["status"]) == {"diverged"}
    assert set(trials[~diverged]["status"]) <= {"ok", "pruned"}
    assert {outcome.status for _, outcome in account.problems} == {Status.DIVERGED}
    assert trials[diverged]["rung_accuracies"].map(len).eq(0).all()
    assert set(trials.loc[best_trials(run.store, 8), "status"]) == {"ok"}
    assert drive_here(run)[1].events == []


@pytest.mark.parametrize("scheduler", ["asha", "halving"])
def test_a_search_of_which_nothing_is_left_ends(scheduler: str, tmp_path: Path):
    space = {"inner_lr": {"choices": [1e6]}}
    run = scheduled(tmp_path, scheduler, search={"space": space}, **DIVERGING)
    account, _ = drive_here(run)
    assert not account.interrupted
    assert set(trials_of(run)["status"]) == {"diverged"}
    assert drive_here(run)[1].events == []


def test_a_trial_that_fails_after_a_rung_stays_failed_once_others_were_stopped(
    whole: dict[str, RunFolder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    victim = trials_of(whole["halving"]).query("method == 'gradient' and number < 4 and status == 'ok'").index[0]

    def search(setting: Any, config: Any, recorder: Any, shards: Any) -> Any:
        if setting.config.trial_id == victim and recorder.next_step > 4:
            raise OSError("the data is gone")
        return search_by_gradient(setting, config, recorder, shards)

    monkeypatch.setattr("search.trial.search_by_gradient", search)
    run = scheduled(tmp_path, "halving", **ONE_WAVE)
    account, _ = drive_here(run)
    assert [(unit.key, outcome.status) for unit, outcome in account.problems] == [(victim, "failed")]
    row = trials_of(run).loc[victim]
    assert (row["status"], len(row["rung_accuracies"])) == ("failed", 2)
    monkeypatch.undo()
    # The others were stopped because of it: another end of it would not be that of the same search.
    assert drive_here(run)[1].events == []


def test_a_process_that_dies_between_rungs_costs_time_only(
    whole: dict[str, RunFolder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    killed, died = Outcome(Status.KILLED, PENALTY, "its process died"), []

    def work(unit: Any, **arguments: Any) -> Outcome:
        if unit.payload.get("until") == 1 and not died:
            died.append(unit.key)
            return killed
        return do_unit(unit, **arguments)

    monkeypatch.setattr("search.work.do_unit", work)
    run = scheduled(tmp_path, "halving", **ONE_WAVE)
    account, _ = drive_here(run)
    assert account.problems == []
    attempts = trials_of(run).loc[died]
    assert attempts["status"].iloc[0] == "killed"
    assert len(attempts["rung_accuracies"].iloc[0]) == 1
    assert attempts["attempt"].tolist() == [0, 1]
    (run.path / "trials" / f"part-{died[0]}-a0.parquet").unlink()
    assert_same_trials(run, whole["halving"])
    assert len(trials_of(run)) == 4


@pytest.mark.ray
def test_halving_by_two_workers_has_the_same_rows(whole: dict[str, RunFolder], tmp_path: Path):
    from search.config import RunConfig
    from search.launch import drive

    run = scheduled(tmp_path, "halving", **ONE_WAVE)
    resources = RunConfig.model_validate(run.info.config).resources.model_copy(update={"workers": 2})
    account = drive(run, resources, lambda plan, account: lambda *_: None)
    assert (account.problems, account.interrupted) == ([], False)
    assert_same_trials(run, whole["halving"])
    assert len(trials_of(run)) == 4


# Equal trials

EQUAL: dict[str, Any] = {
    "method": "gradient",
    "gradient": {"outer_steps": 4},
    "search": {"trials": 6, "wave": 3, "sampler": "random", "seeds": "common", "space": {"width": {"choices": [6, 8]}}},
    "evaluation": {"best": 6},
}


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = new_run(tmp_path_factory.mktemp("equal"), **EQUAL)
    account, _ = drive_here(run)
    assert (account.problems, account.interrupted) == ([], False)
    return run


def test_a_trial_of_the_same_configuration_and_seed_is_not_run_again(equal: RunFolder):
    trials = trials_of(equal)
    originals, copies = trials[trials["copied_from"].isna()], trials[trials["copied_from"].notna()]
    assert (len(originals), len(copies)) == (2, 4)
    assert originals["width"].is_unique
    for _, row in copies.iterrows():
        original = originals.loc[row["copied_from"]]
        assert original["number"] < row["number"]
        for name in ("status", "score", "score_sem", "width", "inner_lr", "seed"):
            assert row[name] == original[name]
        assert (row["inner_steps_total"], row["wall_seconds"]) == (0, 0.0)
    steps = pd.read_parquet(equal.path / "steps")
    assert set(steps["trial_id"]) == set(originals.index)


def test_a_copy_would_have_had_the_same_numbers(equal: RunFolder, tmp_path: Path):
    """The oracle of copying: do the work all the same."""
    trials = trials_of(equal)
    name = trials[trials["copied_from"].notna()].index[-1]
    from search.config import RunConfig, trial_config
    from search.trial import run_trial

    config = RunConfig.model_validate(equal.info.config)
    number = int(trials.loc[name, "number"])
    again = run_trial(trial_config(config, "gradient", number, {"width": int(trials.loc[name, "width"])}))
    assert again.trial["score"] == trials.loc[name, "score"]
    assert again.trial["config_hash"] == trials.loc[name, "config_hash"]


def test_copies_are_neither_judged_nor_sets_of_their_own(equal: RunFolder):
    trials = trials_of(equal)
    originals = set(trials[trials["copied_from"].isna()].index)
    assert set(best_trials(equal.store, 6)) == originals
    assert set(pd.read_parquet(equal.path / "evaluations")["trial_id"]) == originals | {"usual"}
    copy = trials[trials["copied_from"].notna()].index[0]
    with pytest.raises(ValueError, match=f"{copy} is a copy of {trials.loc[copy, 'copied_from']}: name that one"):
        found_set(equal.store, copy)


def test_a_run_with_copies_can_be_stopped_repaired_and_gone_on_with(equal: RunFolder, tmp_path: Path):
    assert drive_here(equal)[1].events == []
    run = new_run(tmp_path, **EQUAL)
    for _ in range(30):
        asked = iter([False, True])
        if not drive_here(run, stop=lambda asked=asked: next(asked, True))[0].interrupted:  # type: ignore[misc]
            break
    (run.path / "steps" / "part-gradient-0000-a0.parquet").unlink()
    assert drive_here(run)[1].finished == ["gradient-0000"]
    assert_same_trials(run, equal)
    assert len(trials_of(run)) == 6


def test_with_seeds_of_their_own_equal_trials_are_repeats(tmp_path: Path):
    run = new_run(tmp_path, **merged(EQUAL, {"search": {"seeds": "own"}, "evaluation": {"best": 0}}))
    drive_here(run)
    trials = trials_of(run)
    assert trials["copied_from"].isna().all()
    assert trials["seed"].is_unique
    assert not trials["params"].is_unique
