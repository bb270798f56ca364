"""Variance of the signal in judged networks before training: which are measured, once each, and resumed."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis import load_run
from ldnn_core.activations import UsualActivation
from ldnn_core.initial_variance import measure_initial_variance
from ldnn_core.randomness import derive_seed
from search.conditions import Wanted
from search.config import RunConfig, stored_config
from search.evaluate import Request, evaluation_units
from search.run_folder import open_run
from search.schema import TABLES, UNIQUE_KEYS
from search.setting import load_task, make_network
from search.verification import verify_run
from tests.small_runs import drive_here, new_run, rows

TABLE = "initial_variance"
RESTARTS = {"name": "restarts", "schedule": "restarts", "stepsize": 1}
GOLDEN = Path(__file__).parents[1] / "golden"


def a_run(folder, **evaluation):
    asked = {"widths": [6], "depths": [1, 2], "usual": ["sin", "relu"]} | evaluation
    run = new_run(folder, method="gradient", search={"trials": 1}, evaluation=asked)
    return run, *drive_here(run)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    more = {"mixings": ["within_layer", "per_layer"], "regimes": [RESTARTS], "controls": ["mixed-normalized"]}
    return a_run(tmp_path_factory.mktemp("measured"), initial_variance=True, **more)


def test_every_arm_is_measured_at_every_size_and_mixing_and_once_for_all_regimes(measured):
    run, account, listener = measured
    assert not account.problems
    assert account.finished == listener.expected
    frame = pd.read_parquet(run.path / TABLE)
    assert list(frame.columns) == TABLES[TABLE].names
    assert not frame.duplicated([*UNIQUE_KEYS[TABLE]]).any()
    counts = frame.groupby(["trial_id", "mixing", "depth", "arm"]).size()
    assert set(counts) == {2}
    learned = {"mixed", "pure-0", "pure-1", "mixed-normalized"}
    assert {key: set(own.index.get_level_values("arm")) for key, own in counts.groupby(level=[0, 1, 2])} == {
        ("gradient-0000", mixing, depth): learned for mixing in ("per_layer", "within_layer") for depth in (1, 2)
    } | {("usual", "within_layer", depth): {"sin", "relu"} for depth in (1, 2)}
    assert (frame["variance_in"].map(len) == frame["depth"]).all()
    assert (frame["variance_out"].map(len) == frame["depth"]).all()
    assert set(frame["batch_size"]) == {100}
    assert verify_run(run).is_sound


def test_its_numbers_are_those_of_the_core_for_the_evaluations_own_seed(measured):
    run, _, _ = measured
    config = stored_config(run.info.config, run.path)
    data = load_task(config.task, "cpu")
    known = measure_initial_variance(
        data,
        make_network(data, "mlp", 6, 2),
        {"relu": UsualActivation("relu")},
        range(2),
        batch_size=100,
        root_seed=derive_seed(config.seed, "evaluation"),
    )
    frame = pd.read_parquet(run.path / TABLE).query("arm == 'relu' and depth == 2").sort_values("seed")
    assert [tuple(values) for values in frame["variance_in"]] == [one.variance_in for one in known]
    assert [tuple(values) for values in frame["variance_out"]] == [one.variance_out for one in known]


def test_it_is_measured_when_asked_for_never_twice_and_what_is_lost_again(tmp_path):
    run, account, _ = a_run(tmp_path)
    assert not account.problems
    assert not list((run.path / TABLE).glob("*.parquet"))
    request = Request(("gradient-0000",), (6,), (1, 2), 2, initial_variance=True)
    assert drive_here(run, search=False, request=request)[0].finished == 4
    before = rows(run.path, TABLE)
    account, _ = drive_here(run, search=False, request=request)
    assert (account.finished, account.skipped) == (0, 8)
    sorted((run.path / TABLE).glob("*.parquet"))[0].unlink()
    assert drive_here(run, search=False, request=request)[0].finished == 1
    pd.testing.assert_frame_equal(rows(run.path, TABLE), before, check_exact=True)
    more = Request(("gradient-0000",), (6,), (1, 2), 3, usual=("sin", "hat"), initial_variance=True)
    config = RunConfig.model_validate(run.info.config)
    units, _ = evaluation_units(config, run.store, more)
    asked = [unit.payload for unit in units if unit.payload["kind"] == TABLE and unit.payload["trial_id"] == "usual"]
    assert [(one["arms"], one["seeds"]) for one in asked] == [(["sin", "hat"], [0, 1, 2])] * 2
    drive_here(run, search=False, request=more)
    frame = pd.read_parquet(run.path / TABLE)
    assert not frame.duplicated([*UNIQUE_KEYS[TABLE]]).any()
    assert set(frame.loc[frame["trial_id"] == "usual", "arm"]) == {"sin", "relu", "hat"}


def test_networks_for_images_are_measured_on_tasks_with_images_only(tmp_path):
    run, _, _ = a_run(tmp_path, widths=[6], depths=[1])
    config = RunConfig.model_validate(run.info.config)
    wanted = Wanted(architectures=("vgg_he",))
    request = Request(("gradient-0000",), (2,), (1,), 1, initial_variance=True, wanted=wanted)
    assert evaluation_units(config, run.store, request) == ([], 0)  # mnist1d has none


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_of_an_earlier_version_gets_the_table_when_it_is_asked_for(version, tmp_path):
    path = Path(shutil.copytree(GOLDEN / f"run_v{version}", tmp_path / "run"))
    assert load_run(path).table(TABLE).empty
    run = open_run(path)
    trial_id = next(one for one in load_run(path).evaluations["trial_id"] if one != "usual")
    request = Request((trial_id,), (6,), (1,), 1, usual=("relu",), controls=(), initial_variance=True)
    account, _ = drive_here(run, search=False, request=request, other_code=True)
    assert not account.problems
    assert {trial_id, "usual"} == set(load_run(path).table(TABLE)["trial_id"])
    assert verify_run(open_run(path)).is_sound
