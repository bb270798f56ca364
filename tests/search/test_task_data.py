"""The data of a run is looked at before the run is made, and again before it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.config import RunConfig
from search.config_errors import ConfigError
from search.task_data import with_data
from tests.ldnn_core.tasks.writers import write_idx_folder, write_npz
from tests.small_runs import tiny_run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_idx_folder(tmp_path / "set", rows=100, test_rows=20)
    return tmp_path / "set"


def run_on(**changes: Any) -> RunConfig:
    changes = {"inner": {"batch_size": 20}, "evaluation": {"batch_size": 20}, **changes}
    changes["task"] = {"samples": None, **changes["task"]}
    del changes["task"]["samples"]
    run = tiny_run(**{name: table for name, table in changes.items() if name != "task"})
    return RunConfig.model_validate(run.model_dump() | {"task": changes["task"]})


def refusal(run: RunConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        with_data(run, "recipe mine")
    assert str(caught.value).startswith("1 problem in recipe mine:\n")
    return str(caught.value)


def test_generated_data_is_left_to_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LDNN_CACHE", str(tmp_path / "cache"))
    for task in ({}, {"name": "van_der_pol"}):
        run = run_on(task=task)
        assert with_data(run) == run
    assert not (tmp_path / "cache").exists()


def test_the_path_becomes_absolute_and_the_checksum_is_filled_in(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images.parent)
    run = with_data(run_on(task={"name": "mnist", "path": "set"}))
    assert run.task.settings["path"] == str(images)
    assert len(run.task.settings["checksum"]) == 64
    assert with_data(run) == run


def test_missing_data_is_refused_with_the_way_out(tmp_path: Path) -> None:
    words = refusal(run_on(task={"name": "mnist", "path": str(tmp_path / "nowhere")}))
    assert "task.path = '" in words
    assert f"there is no {tmp_path / 'nowhere'}: the path must name a folder" in words
    assert "put it into the folder that $LDNN_DATA names." in words
    assert "task.path = '': no path is given: the path must name a .npz or .parquet" in refusal(
        run_on(task={"name": "file"})
    )


def test_changed_data_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "own.npz")
    run = with_data(run_on(task={"name": "file", "path": str(tmp_path / "own.npz")}))
    write_npz(tmp_path / "own.npz", rows=70)
    assert "own.npz has changed since its checksum was kept" in refusal(run)


def test_too_few_rows_for_a_batch_are_refused(images: Path) -> None:
    run = run_on(task={"name": "mnist", "path": str(images)}, inner={"batch_size": 81})
    assert "inner.batch_size = 81: `inner.batch_size <= rows to train on (80)` must hold" in refusal(run)
    assert with_data(run_on(task={"name": "mnist", "path": str(images)}, inner={"batch_size": 80}))


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    assert "task.name = 'digits': the task digits comes with scikit-learn: pip" in refusal(
        run_on(task={"name": "digits"})
    )


def test_data_of_further_tasks_is_looked_at_too(images: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / "own.npz")
    tasks = [{"name": "mnist", "path": str(images)}, {"name": "file", "path": str(tmp_path / "own.npz")}]
    run = with_data(run_on(task={}, evaluation={"batch_size": 20, "tasks": tasks}))
    assert [len(task.settings["checksum"]) for task in run.evaluation.tasks] == [64, 64]
    assert with_data(run) == run
    (tmp_path / "own.npz").unlink()
    words = refusal(run)
    assert "evaluation.tasks[1].path = '" in words
    assert f"there is no {tmp_path / 'own.npz'}: " in words
    few = run_on(task={}, evaluation={"batch_size": 81, "tasks": tasks[:1]})
    assert "`evaluation.batch_size <= rows to train on (80) of evaluation.tasks[0]` must hold" in refusal(few)
