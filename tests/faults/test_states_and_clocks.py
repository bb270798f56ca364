"""What a run can do without: everything but its parts, and a clock that goes forward."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from search.run_folder import RunFolder
from tests.faults.harness import Damage, damage
from tests.small_runs import drive_here, new_run

PARTS = {"run.json", "trials", "steps", "activations", "evaluations"}


def stop_after(units: int, run: RunFolder) -> None:
    told: list[int] = []
    drive_here(run, stop=lambda: told.append(1) is None and len(list(run.path.glob("trials/*.parquet"))) >= units)


def test_a_run_goes_on_from_its_parts_when_all_else_is_gone(undisturbed: RunFolder, tmp_path: Path) -> None:
    """No state of Ray's or Optuna's is kept in a run; whatever lies beside the parts may be deleted, or be nonsense."""
    run = new_run(tmp_path)
    stop_after(2, run)
    for path in run.path.iterdir():
        if path.name not in PARTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("tuner.pkl", "experiment_state-2026.json", "optuna.journal", "study.db"):
        (run.path / name).write_bytes(b"\x80\x04torn")
    account, told = drive_here(run)
    assert account.problems == []
    assert account.skipped == 2
    assert not {"gradient-0000", "evolution-0000"} & set(told.finished)
    assert damage(run.path, undisturbed.path) == Damage()


def test_durations_are_those_of_a_clock_that_never_jumps(
    undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jumping(datetime):
        days = 0

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            cls.days -= 1
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=cls.days)

    began = time.monotonic()
    for module in ("search.trial", "search.driver_lock"):
        monkeypatch.setattr(f"{module}.datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: float(Jumping.now().timestamp()))
    run = new_run(tmp_path)
    drive_here(run)
    monkeypatch.undo()
    elapsed = time.monotonic() - began
    trials = pd.read_parquet(run.path / "trials")
    assert Jumping.days <= -4  # one for each trial
    assert (trials["wall_seconds"] > 0).all()
    assert trials["wall_seconds"].sum() < elapsed
    steps = pd.read_parquet(run.path / "steps").sort_values(["trial_id", "step"])
    assert (steps.groupby("trial_id")["wall_seconds"].diff().dropna() >= 0).all()
    assert damage(run.path, undisturbed.path) == Damage()


def test_damage_is_seen(undisturbed: RunFolder, tmp_path: Path) -> None:
    """The measure itself: a row less, a row twice, another number."""
    hurt = tmp_path / "hurt"
    shutil.copytree(undisturbed.path, hurt)
    assert damage(hurt, undisturbed.path) == Damage()
    part = hurt / "trials" / "part-gradient-0001-a0.parquet"
    rows = pd.read_parquet(part)
    rows.assign(attempt=1).to_parquet(hurt / "trials" / "part-gradient-0001-a1.parquet")
    assert damage(hurt, undisturbed.path) == Damage(doubled=1)
    rows.assign(score=0.123).to_parquet(part)
    (hurt / "trials" / "part-gradient-0001-a1.parquet").unlink()
    assert damage(hurt, undisturbed.path) == Damage(changed=1)
    part.unlink()
    assert damage(hurt, undisturbed.path) == Damage(lost=1)
