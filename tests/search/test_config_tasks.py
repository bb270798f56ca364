"""The table [task]: a model for each name, what changes with the name, and what a path is counted from."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest

from search.config import RunConfig, canonical, identity, stored_config, trial_config
from search.config_errors import ConfigError, checked
from search.config_tasks import (
    Cifar10Config,
    DigitsConfig,
    FashionMnistConfig,
    FileConfig,
    Mnist1dConfig,
    MnistConfig,
    TaskConfig,
    VanDerPolConfig,
    same_data,
)
from search.config_types import TaskName
from search.provenance import config_hash
from search.recipes import load_recipe

MODELS = (Mnist1dConfig, VanDerPolConfig, DigitsConfig, FashionMnistConfig, MnistConfig, Cifar10Config, FileConfig)


def run_with(**task: Any) -> RunConfig:
    rows = {"inner": {"batch_size": 10}, "evaluation": {"batch_size": 10}}
    return checked(RunConfig, {"name": "test", "task": task, **rows})


def test_every_name_has_a_model_and_every_model_its_name() -> None:
    assert {model().name for model in MODELS} == set(get_args(TaskName))
    tagged = get_args(get_args(TaskConfig)[0])
    assert {(get_args(one)[0], get_args(one)[1].tag) for one in tagged} == {(m, f"<{m().name}>") for m in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_a_name_is_enough_for_a_task(model: type[Any]) -> None:
    run = run_with(name=model().name)
    assert run.task == model()
    assert run.task.title == run.task.name
    assert checked(RunConfig, json.loads(json.dumps(run.model_dump(mode="json")))) == run
    assert pickle.loads(pickle.dumps(run)) == run
    assert set(run.task.row_keys) <= set(model.model_fields)


@pytest.mark.parametrize("model", MODELS)
def test_settings_are_those_of_the_task_of_the_core(model: type[Any]) -> None:
    from ldnn_core.tasks import TASKS

    made = TASKS[model().name](**model().settings)
    plain = TASKS[model().name](**({"path": ""} if model is FileConfig else {}))
    assert made == plain  # the same defaults in both


def test_a_table_without_a_name_is_what_it_was_when_there_was_one_task() -> None:
    assert run_with(samples=2000).task == Mnist1dConfig(samples=2000)


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ({}, 3200),
        ({"name": "van_der_pol"}, 3200),
        ({"name": "van_der_pol", "trajectories": 33, "steps": 7, "validation_fraction": 0.3}, 18 * 7),
        ({"name": "digits"}, 1150),
        ({"name": "mnist"}, None),
        ({"name": "mnist", "rows": 103}, 82),
        ({"name": "file"}, None),
    ],
)
def test_training_rows(task: dict[str, Any], rows: int | None) -> None:
    assert run_with(**task).task.training_rows == rows


@pytest.mark.parametrize("task", [{}, {"name": "digits", "validation_fraction": 0.37}, {"name": "van_der_pol"}])
def test_training_rows_are_as_many_as_the_data_has(task: dict[str, Any], tmp_path: Path) -> None:
    from ldnn_core.tasks import TASKS

    if task.get("name") == "van_der_pol":
        task = task | {"trajectories": 33, "steps": 7, "validation_fraction": 0.3}
    config = run_with(**task).task
    assert len(TASKS[config.name](**config.settings).load(tmp_path).train) == config.training_rows


def test_the_label_is_the_name_in_tables() -> None:
    assert run_with(name="van_der_pol", mu=5.0, label="vdp-5").task.title == "vdp-5"


def refusal(**tables: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(RunConfig, {"name": "test", **tables})
    return str(caught.value)


def test_further_tasks_are_tables_of_the_same_kind() -> None:
    tasks = [{"name": "digits"}, {"name": "van_der_pol", "mu": 1.0}, {"samples": 2000, "label": "fewer"}]
    run = checked(RunConfig, {"name": "test", "evaluation": {"tasks": tasks}})
    assert [task.title for task in run.evaluation.tasks] == ["digits", "van_der_pol", "fewer"]
    assert checked(RunConfig, json.loads(json.dumps(run.model_dump(mode="json")))) == run


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([{"name": "digits"}, {}], "`no two tasks have the same label or name (mnist1d, digits, mnist1d)` must hold"),
        ([{"name": "digit"}], "evaluation.tasks[0].name = 'digit': must be one of mnist1d, van_der_pol"),
        ([{"name": "digits", "mu": 3}], "evaluation.tasks[0].mu = 3: there is no such key in evaluation.tasks[0] of"),
        ([{"name": "digits", "data_sed": 3}], "data_sed = 3: there is no such key. Did you mean evaluation.tasks.data"),
        ([{"name": "van_der_pol", "trajectories": 10, "steps": 10}],
         "`evaluation.batch_size <= rows to train on (60) of evaluation.tasks[0]` must hold"),
        ("digits", "evaluation.tasks = 'digits': must be a list of 0 to 10 values, each a table with a name"),
    ],
)  # fmt: skip
def test_a_wrong_further_task_is_refused(tasks: Any, words: str) -> None:
    assert words in refusal(evaluation={"tasks": tasks})


def test_where_further_data_lies_is_not_hashed() -> None:
    runs = [
        checked(RunConfig, {"name": "test", "evaluation": {"tasks": [{"name": "mnist", "path": path}]}})
        for path in "ab"
    ]
    assert canonical(runs[0]) == canonical(runs[1])


# Where data lies


def test_no_result_depends_on_where_data_lies_but_on_what_it_is() -> None:
    one, moved = (
        run_with(name="mnist", path="a", checksum="0" * 64),
        run_with(name="mnist", path="b", checksum="0" * 64),
    )
    other = run_with(name="mnist", path="a", checksum="1" * 64)
    assert canonical(one) == canonical(moved) != canonical(other)
    trials = [trial_config(run, "gradient", 0, {}) for run in (one, moved, other)]
    assert identity(trials[0]) == identity(trials[1]) != identity(trials[2])
    hashes = [config_hash(canonical(trial)) for trial in trials]
    assert hashes[0] == hashes[1] != hashes[2]
    assert same_data(one.task, moved.task)
    assert not same_data(one.task, other.task)
    assert same_data(one.task, one.task.model_copy(update={"label": "mine"}))
    assert not same_data(run_with().task, run_with(name="digits").task)


def test_what_is_hashed_reads_back() -> None:
    run = run_with(name="file", path="own.npz", checksum="0" * 64)
    assert RunConfig.model_validate(canonical(run)).task == FileConfig(checksum="0" * 64)


def test_a_path_in_a_recipe_is_counted_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, own = tmp_path / "base", tmp_path / "own"
    for folder in (base, own):
        folder.mkdir()
    (base / "below.toml").write_text("task = {name = 'file', path = 'data/x.npz'}")
    (own / "mine.toml").write_text("extends = 'below'\nseed = 3")
    (own / "other.toml").write_text("extends = 'below'\ntask.path = '~/x.npz'")
    monkeypatch.setenv("HOME", "/home/her")
    assert load_recipe("below", folder=base).task.settings["path"] == str(base / "data" / "x.npz")
    assert load_recipe(str(own / "mine.toml"), folder=base).task.settings["path"] == str(base / "data" / "x.npz")
    assert load_recipe(str(own / "other.toml"), folder=base).task.settings["path"] == "/home/her/x.npz"
    assert load_recipe("below", ["task.path=y.npz"], folder=base).task.settings["path"] == "y.npz"


# Another task than that of the recipe


def test_keys_of_another_task_go_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[task]\nsamples = 2000\nvalidation_fraction = 0.5")
    (tmp_path / "mine.toml").write_text("extends = 'base'\n[task]\nname = 'van_der_pol'\nmu = 3.0")
    assert load_recipe("mine", folder=tmp_path).task == VanDerPolConfig(mu=3.0)
    for overrides in (["task.name=van_der_pol", "task.mu=4"], ["task.mu=4", "task.name='van_der_pol'"]):
        assert load_recipe("base", overrides, folder=tmp_path).task == VanDerPolConfig(mu=4.0)
        assert load_recipe("mine", overrides, folder=tmp_path).task == VanDerPolConfig(mu=4.0)
    kept = load_recipe("base", ["task.name=mnist1d", "task.data_seed=1"], folder=tmp_path).task
    assert kept == Mnist1dConfig(samples=2000, validation_fraction=0.5, data_seed=1)
    assert load_recipe("mine", ["task.horizon=1"], folder=tmp_path).task == VanDerPolConfig(mu=3.0, horizon=1.0)


def test_a_run_that_was_made_before_there_were_several_tasks_is_read() -> None:
    stored = {"name": "old", "task": {"name": "mnist1d", "samples": 1000, "data_seed": 42, "validation_fraction": 0.2}}
    assert stored_config(stored, "runs/old").task == Mnist1dConfig(samples=1000)
