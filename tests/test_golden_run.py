"""Run folders of earlier schema versions (tests/golden, made by the code of their time) are read by today's."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis import cross_size_table, load_run, pareto_table, report, write_report
from analysis.figures import FIGURES
from jobs.status import run_status
from search.config import stored_config
from search.run_folder import open_run
from search.schema import SCHEMA_VERSION, TABLES
from search.verification import verify_run
from tests.small_runs import drive_here

GOLDEN = Path(__file__).parent / "golden" / "run_v1"
ADDED = {
    "trials": {"widths", "depths", "cross_size_drop", "num_params", "flatness"}
    | {"rung_accuracies", "rung_threshold", "copied_from"},
    "activations": {"normalized", "table_range", "table_scale", "table_error"},
    "evaluations": {"metric", "rollout_error", "epoch_accuracies", "epoch_losses"}
    | {"hessian_eigenvalues", "near_zero_threshold", "curvature_rows", "noise_alignment", "noise_trace"}
    | {"preactivation_density", "regime", "snapshot_accuracies", "ensemble_accuracy", "ensemble_weighted_accuracy"}
    | {"error_correlation", "snapshot_distance"},
}
"""Columns that later versions have added."""


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(GOLDEN, tmp_path / "run_v1"))


def test_it_is_of_version_1_and_as_it_was_then():
    assert json.loads((GOLDEN / "run.json").read_text())["schema_version"] == 1 < SCHEMA_VERSION
    assert not any("warm_start" in text for text in (GOLDEN / "run.json").read_text().splitlines())
    assert set(pd.read_parquet(GOLDEN / "trials")["schema_version"]) == {1}


@pytest.mark.parametrize("table", ["trials", "steps", "activations", "evaluations"])
def test_every_table_has_todays_columns_and_the_numbers_of_then(run, table):
    then, now = pd.read_parquet(run / table), load_run(run).table(table)
    assert list(now.columns) == TABLES[table].names
    assert len(now) == len(then) > 0
    assert set(now.columns) - set(then.columns) == ADDED.get(table, set())
    assert now[sorted(ADDED.get(table, set()))].isna().all(axis=None)
    for name in ("score", "outer_loss", "accuracy"):
        if name in then.columns:
            pd.testing.assert_series_equal(now[name], then[name], check_exact=True, check_dtype=False)


def test_status_and_report_speak_of_it(run, monkeypatch):
    # Two figures are enough, one of which has no data; drawing takes seconds.
    monkeypatch.setattr(report, "FIGURES", {name: FIGURES[name] for name in ("activation_curves", "pareto_set")})
    found = run_status(run)
    assert [trial["state"] for trial in found["trials"]] == ["ok", "ok"]
    assert (found["objectives"], found["pareto_set"], found["damaged_parts"]) == (["score"], [], [])
    page = write_report(run).read_text()
    assert "gradient-0000" in page
    assert "Pareto set:" not in page
    assert pareto_table(load_run(run)).empty
    assert 'id="activation_curves"' in page


def test_it_is_open_to_be_gone_on_with_and_nothing_is_left_to_do(run):
    folder = open_run(run)
    assert folder.info.warm_start is None
    account, listener = drive_here(folder)
    assert (account.finished, account.quarantined, listener.finished) == (0, [], [])
    assert account.skipped == 5


def test_a_trial_that_is_done_again_today_has_the_same_numbers(run):
    for table in ("trials", "steps", "activations"):
        (run / table / "part-gradient-0000-a0.parquet").unlink()
    drive_here(open_run(run), other_code=True)
    before = pd.read_parquet(GOLDEN / "trials").set_index("trial_id")["score"]
    now = load_run(run).trials.set_index("trial_id")
    assert now["score"].to_dict() == pytest.approx(before.to_dict(), abs=1e-12)
    # Parts of both versions stand side by side in one table.
    assert sorted(now["schema_version"]) == [1, SCHEMA_VERSION]
    assert now["num_params"].isna().to_dict() == {"evolution-0000": True, "gradient-0000": False}


LATER = GOLDEN.parent / "run_v2"


@pytest.fixture
def later(tmp_path):
    return Path(shutil.copytree(LATER, tmp_path / "run_v2"))


def test_a_run_of_version_2_is_read_with_todays_names(later):
    assert json.loads((LATER / "run.json").read_text())["schema_version"] == 2
    run = load_run(later)
    for table in ("trials", "steps", "activations", "evaluations"):
        then = pd.read_parquet(later / table)
        assert list(run.table(table).columns) == TABLES[table].names
        assert len(run.table(table)) == len(then) > 0
    config = stored_config(open_run(later).info.config, later)
    assert (config.evaluation.lr_protocol, config.evaluation.controls) == ("per_arm_size", ("mixed-normalized",))
    assert set(run.evaluations["lr_protocol"]) == {"tuned"}  # rows stay as they were written
    assert cross_size_table(run.evaluations)["arm"].nunique() == 8
    assert verify_run(open_run(later)).is_sound


def test_what_a_run_of_version_2_lacks_is_done_again_to_the_same_scores(later):
    (later / "trials" / "part-gradient-0000-a0.parquet").unlink()
    drive_here(open_run(later), search=True, other_code=True)
    scores = pd.read_parquet(LATER / "trials").set_index("trial_id")["score"]
    now = load_run(later).trials.set_index("trial_id")["score"]
    assert now.to_dict() == pytest.approx(scores.to_dict(), abs=1e-12)
