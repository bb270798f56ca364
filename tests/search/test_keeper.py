"""Trials that are cut off anywhere on their way go on from their last checkpoint, to the same bits."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ldnn_core.algorithms import ALGORITHMS
from search import checkpoint
from search.checkpoint import BETWEEN, Checkpoint, Damaged
from search.config import TrialConfig, canonical
from search.durable import CRASH_EXIT, StoreError
from search.keeper import Keeper
from search.leg import Leg
from search.plan import Unit
from search.progress import silent
from search.provenance import config_hash
from search.run_folder import open_run
from search.schema import Status
from search.shards import ShardsHere
from search.store import Store
from search.trial import TrialRecords, run_trial
from search.work import _leg, do_unit
from tests.small_runs import assert_same_rows, drive_here, new_run, tiny_trial

ROOT = Path(__file__).resolve().parents[2]
STEPS = 7
ESTIMATORS: dict[str, dict[str, Any]] = {
    "unrolled": {},
    "first_order": {"classifiers": 3, "shard": 2},
    "truncated": {"truncation": 2},
    "carried": {"estimator": "truncated", "truncation": 2, "carried": True, "classifiers": 2},
    "es": {"pairs": 2},
    "pes": {"truncation": 2, "pairs": 2, "classifiers": 2},
}
TRIALS: dict[str, TrialConfig] = {
    **{
        name: tiny_trial(
            "gradient",
            gradient={"estimator": name, "outer_steps": STEPS, **options},
            objective={"widths": [8, 10]} if name in ("carried", "pes") else {},
            inner={"optimizer": "sgd" if name == "carried" else "rmsprop"},
        )
        for name, options in ESTIMATORS.items()
    },
    **{
        name: tiny_trial("evolution", evolution={"generations": STEPS, "algorithm": name, "shard": 3})
        for name in sorted(ALGORITHMS)
    },
}


class Cut(BaseException):
    """The process dies here."""


class CountingShards(ShardsHere):
    """Notes which outer steps were done by shards."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def map(self, body: Any, setting: Any, outer_step: int, shards: Any) -> Any:
        self.steps.append(outer_step)
        return super().map(body, setting, outer_step, shards)


def numbers(records: TrialRecords) -> Any:
    """Everything but times, as JSON writes it: equal only if equal to the bit."""
    row = {key: value for key, value in records.trial.items() if key not in {"started_at", "wall_seconds"}}
    steps = [{key: value for key, value in step.items() if key != "wall_seconds"} for step in records.steps]
    return json.dumps([row, steps, records.activations], sort_keys=True)


def keeper(root: Path, trial: TrialConfig, cut_after: int) -> Keeper:
    """Keeps a checkpoint after every step, and dies when it would keep the one after so many."""
    kept = itertools.count()

    def guard() -> None:
        if next(kept) == cut_after:
            raise Cut

    tick = itertools.count()
    return Keeper(
        root, trial.trial_id, config_hash(canonical(trial)), 0.5, guard=guard, clock=lambda: float(next(tick))
    )


def cut_off(root: Path, trial: TrialConfig, after: int) -> None:
    with pytest.raises(Cut):
        run_trial(trial, silent, keeper=keeper(root, trial, after))


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_goes_on_from_its_checkpoint_to_the_same_bits(name: str, tmp_path: Path):
    trial = TRIALS[name]
    cut_off(tmp_path, trial, 4)
    stands = checkpoint.latest(tmp_path, trial.trial_id, config_hash(canonical(trial)), -1, step=STEPS)
    assert stands is not None
    assert (stands.rung, stands.step, len(stands.steps)) == (BETWEEN, 3, 4)
    shards = CountingShards()
    resumed = run_trial(trial, leg=Leg(stands), shards=shards)
    assert numbers(resumed) == numbers(run_trial(trial))
    # No inner step before the checkpoint is done again; those that are carried on do not go through shards at all.
    assert shards.steps == ([] if name in ("carried", "pes") else list(range(4, STEPS)))
    assert resumed.trial["wall_seconds"] > stands.wall_seconds > 0


def test_a_carried_inner_loop_is_taken_up_in_its_middle(tmp_path: Path):
    # Five inner steps in pieces of two: pieces 0, 1, 2 of one inner loop, then 0, 1, 2 of the next.
    for cut, step_in_loop in ((1, 2), (2, 4), (3, None), (4, 2)):
        root = tmp_path / str(cut)
        root.mkdir()
        cut_off(root, TRIALS["pes"], cut)
        name = config_hash(canonical(TRIALS["pes"]))
        stands = checkpoint.latest(root, "gradient-0000", name, -1, step=STEPS)
        assert stands is not None
        if step_in_loop is None:
            assert "loops.begun" not in stands.state
        else:
            assert int(stands.state["loops.begun"]) == 3 * ((cut - 1) // 3)
            assert int(stands.state["loops.1.step"]) == step_in_loop
            assert stands.state["loops.1.perturbation"].shape[0] == 2


def test_the_last_checkpoint_of_all_leaves_the_score_to_be_measured(tmp_path: Path):
    trial = TRIALS["unrolled"]
    run_trial(trial, keeper=keeper(tmp_path, trial, -1))
    stands = checkpoint.latest(tmp_path, trial.trial_id, config_hash(canonical(trial)), -1, step=STEPS)
    assert stands is not None
    assert stands.step == STEPS - 1
    assert numbers(run_trial(trial, leg=Leg(stands))) == numbers(run_trial(trial))


def test_two_files_are_kept_and_the_older_serves_when_the_newer_is_damaged(tmp_path: Path):
    trial = TRIALS["genetic"]
    cut_off(tmp_path, trial, 5)
    name = config_hash(canonical(trial))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"evolution-0000-{name}-s{step}.safetensors" for step in (3, 4)]
    assert sum(path.stat().st_size for path in (tmp_path / "checkpoints").iterdir()) < 200_000
    newer = tmp_path / "checkpoints" / kept[1]
    newer.write_bytes(newer.read_bytes()[:-40])
    damaged: list[Damaged] = []
    stands = checkpoint.latest(tmp_path, trial.trial_id, name, -1, step=STEPS, damaged=damaged)
    assert stands is not None
    assert stands.step == 3
    assert [one.name for one in damaged] == [newer.name]
    assert (tmp_path / "quarantine" / "checkpoints" / newer.name).exists()
    assert numbers(run_trial(trial, leg=Leg(stands))) == numbers(run_trial(trial))


@pytest.mark.parametrize(("payload", "step"), [({"until": 0}, 2), ({"until": 1}, 3), ({"accuracies": [0.5]}, 5)])
def test_a_leg_begins_at_the_furthest_place_before_its_end(tmp_path: Path, payload: dict[str, Any], step: int):
    search = {"scheduler": "halving", "trials": 4, "wave": 4, "reduction": 2, "rungs": 2}
    trial = tiny_trial("gradient", gradient={"outer_steps": 8}, evolution={"generations": 9}, search=search)
    assert trial.rungs == (2, 4)
    for rung, place in ((BETWEEN, 1), (0, 2), (BETWEEN, 3), (BETWEEN, 5)):
        stands = Checkpoint(rung, place, {}, [], [], 0, 0.0, 0.0, "then")
        checkpoint.save(tmp_path, trial.trial_id, config_hash(canonical(trial)), stands)
    start = _leg(Store(tmp_path), trial, payload, []).start
    assert start is not None
    assert start.step == step


def test_checkpoints_come_by_the_clock_and_not_at_all_with_zero_seconds(tmp_path: Path):
    now = [0.0]
    one = Keeper(tmp_path, "gradient-0000", "0" * 16, 10.0, clock=lambda: now[0])
    assert not one.is_due()
    now[0] = 10.0
    assert one.is_due()
    now[0] = 1e9
    assert not Keeper(tmp_path, "gradient-0000", "0" * 16, 0.0, clock=lambda: now[0]).is_due()


def test_a_checkpoint_that_cannot_be_kept_costs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr("search.keeper.checkpoint.save", full)
    trial = TRIALS["snes"]
    one = keeper(tmp_path, trial, -1)
    assert run_trial(trial, keeper=one).status is Status.OK
    assert one.failure == "no space left"


DRIVE = """
import sys
from pathlib import Path
from search.run_folder import open_run
from tests.small_runs import drive_here
drive_here(open_run(Path(sys.argv[1])))
"""
LONG: dict[str, Any] = {
    "gradient": {"outer_steps": STEPS, "estimator": "pes", "truncation": 2, "pairs": 2},
    "evolution": {"generations": STEPS},
    "search": {"trials": 1, "space": {}},
    "resources": {"checkpoint_seconds": 1e-6},
    "evaluation": {"widths": [6], "usual": []},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = new_run(tmp_path_factory.mktemp("whole"), **LONG)
    drive_here(run)
    return run.path


@pytest.mark.parametrize("trial", ["gradient-0000", "evolution-0000"])
def test_a_driver_killed_in_the_middle_of_a_trial_goes_on_from_there(whole: Path, tmp_path: Path, trial: str):
    run = new_run(tmp_path, **LONG)
    [digest] = pd.read_parquet(whole / "trials").query(f"trial_id == '{trial}'")["config_hash"]
    where = f"published@checkpoints/{trial}-{digest}-s4"
    died = subprocess.run(
        [sys.executable, "-c", DRIVE, str(run.path)], cwd=ROOT, env={**os.environ, "LDNN_CRASH_POINT": where}
    )
    assert died.returncode == CRASH_EXIT
    method = trial.partition("-")[0]
    outcome = do_unit(
        Unit(trial, 1, {"kind": "trial", "method": method, "number": 0, "params": {}}), run=str(run.path), device="cpu"
    )
    assert "; went on after step 4" in outcome.note
    account, _ = drive_here(run)
    assert account.problems == []
    assert_same_rows(run.path, whole)
    assert not (run.path / "checkpoints").exists()


def test_a_resumed_run_says_what_it_put_aside(whole: Path, tmp_path: Path):
    run = new_run(tmp_path, **LONG)
    [digest] = pd.read_parquet(whole / "trials").query("method == 'gradient'")["config_hash"]
    where = f"published@checkpoints/gradient-0000-{digest}-s4"
    subprocess.run(
        [sys.executable, "-c", DRIVE, str(run.path)], cwd=ROOT, env={**os.environ, "LDNN_CRASH_POINT": where}
    )
    for path in (run.path / "checkpoints").glob("*-s4.safetensors"):
        path.write_bytes(b"")
    notes: dict[str, str] = {}
    from search.config import RunConfig
    from search.launch import drive

    resources = RunConfig.model_validate(run.info.config).resources
    drive(
        open_run(run.path),
        resources,
        lambda plan, account: lambda event, unit, outcome: outcome and notes.update({unit.key: outcome.note}),
    )
    assert "-s4.safetensors was damaged" in notes["gradient-0000"]
    assert "; went on after step 3" in notes["gradient-0000"]
    assert "went on" not in notes["evolution-0000"]
    assert_same_rows(run.path, whole)
