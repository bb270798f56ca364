"""Every task from the command line: search, evaluation and report, in this process."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from analysis.figures import FIGURES
from tests.jobs.calls import ldnn
from tests.ldnn_core.tasks.writers import write_cifar_folder, write_idx_folder, write_npz

SMALL = (
    "method=both",
    "ldnn={width=8,subnet_hidden=[4]}",
    "inner={steps=4,batch_size=16}",
    "gradient={outer_steps=2}",
    "evolution={generations=2,population=4,elites=1}",
    "search={trials=1,startup_trials=0,wave=1,records=2,probe_networks=2,score_networks=2}",
    "evaluation={widths=[6],seeds=2,epochs=2,batch_size=16,usual=['sin']}",
)


@pytest.fixture(autouse=True)
def _few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    # Drawing all of them takes seconds a run, and they are tested by themselves.
    monkeypatch.setattr(report, "FIGURES", {name: FIGURES[name] for name in ("activation_curves", "pareto_set")})


def search(*settings: str, out: Path, recipe: str = "smoke", resume: bool = False) -> object:
    options = [part for one in (*SMALL, *settings) for part in ("--set", one)]
    return ldnn("search", recipe, "--workers", 0, "--out", out, *options, *(["--resume"] if resume else []))


@pytest.mark.parametrize("measure", ["train_loss", "val_loss", "val_accuracy"])
def test_van_der_pol_is_searched_and_judged_by_its_loss(measure: str, tmp_path: Path) -> None:
    more = ["task.trajectories=20", "task.steps=10", f"objective.measure={measure}"]
    if measure == "val_accuracy":
        more.append("method=evolution")
    answer = search(*more, out=tmp_path, recipe="van-der-pol")
    assert answer.code == 0, answer.err
    run = tmp_path / "van-der-pol"
    trials, judged = pd.read_parquet(run / "trials"), pd.read_parquet(run / "evaluations")
    assert set(trials["status"]) == {"ok"}
    assert set(trials["task"]) == set(judged["task"]) == {"van_der_pol"}
    assert trials["score"].between(0, 1, inclusive="neither").all()
    assert set(judged["metric"]) == {"loss"}
    assert judged["accuracy"].isna().all()
    assert (judged["loss"] > 0).all()
    assert (judged["rollout_error"] > 0).all()
    assert (run / "report" / "index.html").stat().st_size > 0


def test_a_regression_that_diverges_is_a_recorded_value(tmp_path: Path) -> None:
    more = ("task.trajectories=20", "task.steps=10", "inner.lr=1e6", "inner.optimizer=sgd", "evaluation.lr=1e6",
            "search.space={}", "evaluation.optimizer=sgd", "method=evolution")  # fmt: skip
    answer = search(*more, out=tmp_path, recipe="van-der-pol")
    trials = pd.read_parquet(tmp_path / "van-der-pol" / "trials")
    assert answer.code == 1, answer.err
    assert trials["status"].tolist() == ["diverged"]
    assert trials["score"].isna().all()


def test_images_are_searched_and_their_checksum_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx_folder(tmp_path / "set", rows=100, test_rows=30)
    answer = search("task.name=fashion_mnist", f"task.path={tmp_path / 'set'}", out=tmp_path)
    assert answer.code == 0, answer.err
    judged = pd.read_parquet(tmp_path / "smoke" / "evaluations")
    assert set(judged["task"]) == {"fashion_mnist"}
    assert set(judged.loc[judged["arm"] == "sin", "num_params"]) == {784 * 6 + 6 + 6 * 10 + 10}
    # The data moves: the run is the same.  It changes: the run does not go on.
    moved = tmp_path / "moved" / "set"
    moved.parent.mkdir()
    (tmp_path / "set").rename(moved)
    words = ldnn("resume", tmp_path / "smoke").err
    assert "task.path" in words
    assert "put it into the folder that $LDNN_DATA names" in words
    monkeypatch.setenv("LDNN_DATA", str(moved.parent))
    next((tmp_path / "smoke" / "evaluations").iterdir()).unlink()
    for again in (
        ldnn("resume", tmp_path / "smoke", "--json"),
        search("task.name=fashion_mnist", f"task.path={moved}", out=tmp_path, resume=True),
    ):
        assert again.code == 0, again.err
    keys, now = ["trial_id", "arm", "seed"], pd.read_parquet(tmp_path / "smoke" / "evaluations")
    before, now = (table.set_index(keys)["accuracy"].sort_index() for table in (judged, now))
    pd.testing.assert_series_equal(before, now, check_exact=True)
    moved.rename(tmp_path / "set")
    write_idx_folder(tmp_path / "set", rows=120, test_rows=30)
    changed = ldnn("resume", tmp_path / "smoke")
    assert changed.code == 2
    assert "has changed since its checksum was kept" in changed.err


@pytest.mark.parametrize("name", ["cifar10", "digits", "file"])
def test_other_tasks_are_searched(name: str, tmp_path: Path) -> None:
    settings = [f"task.name={name}", "method=gradient"]
    if name == "cifar10":
        write_cifar_folder(tmp_path / "set", binary=True)
        settings.append(f"task.path={tmp_path / 'set'}")
    if name == "file":
        write_npz(tmp_path / "own.npz", regression=True)
        settings += [f"task.path={tmp_path / 'own.npz'}", "task.label=own"]
    answer = search(*settings, out=tmp_path)
    assert answer.code == 0, answer.err
    assert set(pd.read_parquet(tmp_path / "smoke" / "evaluations")["task"]) == {"own" if name == "file" else name}


def test_sets_are_judged_on_other_tasks_than_they_were_learned_on(tmp_path: Path) -> None:
    more = ["method=gradient", "task.samples=1000", "evaluation.tasks=[{name='van_der_pol',trajectories=20,steps=10}]"]
    assert search(*more, out=tmp_path).code == 0
    run = tmp_path / "smoke"
    networks = pd.read_parquet(run / "evaluations").groupby("task").size().to_dict()
    assert networks == {"mnist1d": 8, "van_der_pol": 8}  # two seeds of mixed, two pure types and sin
    before = pd.read_parquet(run / "evaluations").set_index(["task", "trial_id", "arm", "seed"])["loss"]
    # What is there is kept: only the new task is trained on, and nothing at all the second time.
    for finished in (2, 0):
        answer = ldnn("evaluate", run, "--task", "van_der_pol,digits", "--json")
        assert (answer.code, answer.json["finished"]) == (0, finished), answer.err
    judged = pd.read_parquet(run / "evaluations").set_index(["task", "trial_id", "arm", "seed"])["loss"]
    assert judged.groupby("task").size().to_dict() == {"digits": 8, "mnist1d": 8, "van_der_pol": 8}
    pd.testing.assert_series_equal(judged[judged.index.isin(before.index)].sort_index(), before.sort_index())
    assert ldnn("evaluate", run, "--task", "mnist1d", "--seeds", 3, "--json").json["finished"] == 2
    assert "evaluation.tasks[0].name = 'digit': must be one of" in ldnn("evaluate", run, "--task", "digit").err
    assert "must name a task" in ldnn("evaluate", run, "--task", ",").err
