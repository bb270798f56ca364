"""Spectral bias of judged sets: which arms are measured, once each, and with what numbers."""

import pandas as pd
import pytest

from ldnn_core.activations import UsualActivation
from ldnn_core.optimizers import Adam
from ldnn_core.randomness import derive_seed
from ldnn_core.spectral_bias import measure_spectral_bias
from search import spectral
from search.evaluate import Request
from search.schema import TABLES, UNIQUE_KEYS
from tests.small_runs import drive_here, new_run


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(spectral, "STEPS", 250)
    monkeypatch.setattr(spectral, "SEEDS", 2)


def a_run(folder, **evaluation):
    asked = {"widths": [6], "usual": ["sin", "relu"], "lr": 0.02} | evaluation
    run = new_run(folder, method="gradient", search={"trials": 1}, evaluation=asked)
    return run, drive_here(run)[0]


def test_every_arm_of_a_set_is_measured_in_the_same_network(tmp_path):
    run, account = a_run(tmp_path, spectral_bias=True)
    assert not account.problems
    frame = pd.read_parquet(run.path / "spectral_bias")
    assert list(frame.columns) == TABLES["spectral_bias"].names
    assert not frame.duplicated([*UNIQUE_KEYS["spectral_bias"]]).any()
    arms = frame.groupby("trial_id")["arm"].agg(set)
    assert arms.to_dict() == {"gradient-0000": {"mixed", "pure-0", "pure-1"}, "usual": {"sin", "relu"}}
    assert set(frame.groupby("arm").size()) == {2}
    assert set(zip(frame["width"], frame["depth"], frame["inner_steps"], strict=True)) == {(100, 1, 250)}
    known = measure_spectral_bias(
        {"sin": UsualActivation("sin")},
        range(2),
        hidden=(100,),
        frequencies=spectral.FREQUENCIES,
        optimizer=Adam(),
        lr=0.02,
        steps=250,
        root_seed=derive_seed(0, "spectral bias"),
    )
    rows = frame.query("arm == 'sin'").sort_values("seed")
    for row, one in zip(rows.to_dict("records"), known, strict=True):
        assert [None if pd.isna(step) else int(step) for step in row["steps_to_fit"]] == list(one.steps_to_fit)
        assert tuple(row["frequencies"]) == spectral.FREQUENCIES
    assert rows["steps_to_fit"].str[0].notna().all()  # the lowest frequency is learned in so many steps


def test_it_is_measured_when_asked_for_and_never_twice(tmp_path):
    run, _ = a_run(tmp_path)
    assert not list((run.path / "spectral_bias").glob("*.parquet"))
    request = Request(("gradient-0000",), (6,), (1,), 2, spectral_bias=True)
    assert drive_here(run, search=False, request=request)[0].finished == 2
    account, _ = drive_here(run, search=False, request=request)
    assert (account.finished, account.skipped) == (0, 4)
    more = Request(("gradient-0000",), (6,), (1,), 2, usual=("sin", "hat"), spectral_bias=True)
    drive_here(run, search=False, request=more)
    frame = pd.read_parquet(run.path / "spectral_bias")
    assert not frame.duplicated([*UNIQUE_KEYS["spectral_bias"]]).any()
    assert set(frame.loc[frame["trial_id"] == "usual", "arm"]) == {"sin", "relu", "hat"}
