"""Regimes and ensembles after a search: on the terminal and for programs."""

import pytest

from jobs.results import print_verdict, verdict_json
from tests.analysis.conftest import RunFolder


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.trial("gradient-0000")
    for arm in ("mixed", "pure-0"):
        made.evaluations("gradient-0000", {arm: [0.5, 0.6, 0.55]})
    return made


def test_without_regimes_nothing_is_said_of_them(folder, capsys):
    print_verdict(folder.path)
    assert "Training regimes" not in capsys.readouterr().out
    assert verdict_json(folder.path)["regimes"] == []


def test_the_mix_under_each_regime_is_a_table_and_all_arms_are_records(folder, capsys):
    snapshots = {"ensemble_accuracy": 0.7, "ensemble_weighted_accuracy": 0.7, "snapshot_accuracies": [0.5, 0.6]}
    for arm in ("mixed", "pure-0"):
        folder.evaluations("gradient-0000", {arm: [0.51, 0.62, 0.58]}, regime="repulsion", **snapshots)
    print_verdict(folder.path)
    said = capsys.readouterr().out
    assert said.count("Training regimes on test rows") == said.count("Ensembles of 2 snapshots") == 1
    assert "+2.0 [" in said
    found = {(row["arm"], row["regime"]): row for row in verdict_json(folder.path)["regimes"]}
    assert set(found) == {(arm, regime) for arm in ("mixed", "pure-0") for regime in ("plain", "repulsion")}
    assert found["mixed", "repulsion"]["vs_plain"] == pytest.approx(0.02)
    assert found["mixed", "plain"]["vs_plain"] is None
