"""Regimes against the plain one, paired by seed, and ensembles of snapshots: made-up rows with known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import load_run, mean_interval, regime_table
from analysis.figures.regimes import regimes_and_ensembles_data
from analysis.regime_tables import regime_tables
from analysis.regimes import COLUMNS
from search.schema import USUAL_TRIAL

SEEDS = 12
EASY = np.random.default_rng(5).normal(0, 0.03, SEEDS)
"""What makes a seed easy under every regime."""
GAINED = {"restarts": np.linspace(-0.02, 0.01, SEEDS), "repulsion": np.linspace(0.005, 0.03, SEEDS)}
"""What each seed gains against the plain regime."""


def ensembles(folder, trial_id, arm, regime, accuracy):
    columns = {"ensemble_accuracy": 0.03, "ensemble_weighted_accuracy": 0.02}
    for seed, value in enumerate(accuracy):
        more = {name: value + gain for name, gain in columns.items()}
        more |= {"snapshot_accuracies": [value - 0.05, value - 0.01], "error_correlation": 0.6 + 0.01 * seed}
        more |= {"snapshot_distance": 0.1, "regime": regime}
        folder.evaluations(trial_id, {arm: {seed: value}}, **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tests.analysis.conftest import RunFolder

    folder = RunFolder(tmp_path_factory.mktemp("regimes") / "run")
    folder.trial("gradient-0000")
    for trial_id, arm, level in (("gradient-0000", "mixed", 0.6), (USUAL_TRIAL, "relu", 0.5)):
        ensembles(folder, trial_id, arm, None, level + EASY)  # rows of earlier code name no regime
        for regime, gained in GAINED.items():
            ensembles(folder, trial_id, arm, regime, level + EASY + gained)
    return load_run(folder.path)


@pytest.fixture(scope="module")
def table(run):
    return regime_table(run.evaluations)


def row(table, regime, arm="mixed"):
    (found,) = table[(table["regime"] == regime) & (table["arm"] == arm)].to_dict("records")
    return found


def test_there_is_a_row_for_every_arm_and_regime_the_plain_one_first(table):
    assert list(table.columns) == COLUMNS
    orders = table.groupby("arm")["regime"].agg(list).to_dict()
    assert orders == {arm: ["plain", "repulsion", "restarts"] for arm in ("mixed", "relu")}
    assert set(table["plain"]) == {"plain"}
    assert set(table["networks"]) == {SEEDS}
    assert set(table["snapshots"]) == {2}


@pytest.mark.parametrize("regime", GAINED)
def test_differences_are_paired_by_seed_and_so_the_spread_of_seeds_is_in_no_interval(table, regime):
    found, expected = row(table, regime), mean_interval(GAINED[regime])
    for name in ("vs_plain", "ensemble_vs_plain"):
        assert found[name] == pytest.approx(GAINED[regime].mean())
        assert found[f"{name}_low"] == pytest.approx(expected.low, abs=5e-4)  # a bootstrap of few values has steps
        assert found[f"{name}_high"] == pytest.approx(expected.high, abs=5e-4)
        assert (found[f"{name}_pairs"], found[f"{name}_lost"]) == (SEEDS, 0)
        assert found[f"{name}_won"] == np.mean(GAINED[regime] > 0)
    assert found["vs_plain_high"] - found["vs_plain_low"] < found["accuracy_high"] - found["accuracy_low"]


def test_p_values_are_of_signed_ranks_and_corrected_over_the_regimes_of_an_arm(table):
    p_values = {regime: stats.wilcoxon(gained, method="exact").pvalue for regime, gained in GAINED.items()}
    for regime, p_value in p_values.items():
        assert row(table, regime)["vs_plain_p"] == pytest.approx(p_value)
    first, last = sorted(p_values, key=p_values.__getitem__)
    assert row(table, first)["vs_plain_p_holm"] == pytest.approx(2 * p_values[first])
    assert row(table, last)["vs_plain_p_holm"] == pytest.approx(max(2 * p_values[first], p_values[last]))


def test_members_are_means_over_snapshots_and_an_ensembles_gain_is_over_its_own_members(table):
    found = row(table, "restarts")
    accuracy = (0.6 + EASY + GAINED["restarts"]).mean()
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["ensemble_accuracy"] == pytest.approx(accuracy + 0.03)
    assert found["ensemble_weighted_accuracy"] == pytest.approx(accuracy + 0.02)
    assert found["member_accuracy"] == pytest.approx(accuracy - 0.03)
    assert [found[f"ensemble_gain{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.06] * 3)
    assert found["error_correlation"] == pytest.approx(0.6 + 0.01 * (SEEDS - 1) / 2)
    assert found["snapshot_distance"] == pytest.approx(0.1)


def test_the_plain_regime_is_not_compared_with_itself(table):
    plain = row(table, "plain")
    assert pd.isna(plain["vs_plain"])
    assert pd.isna(plain["ensemble_vs_plain_p_holm"])
    assert pd.isna(plain["vs_plain_pairs"])


def test_seeds_that_only_one_regime_has_are_lost_and_counted(make_run):
    folder = make_run()
    folder.evaluations("gradient-0000", {"mixed": {0: 0.5, 1: 0.52, 2: 0.6}})
    folder.evaluations("gradient-0000", {"mixed": {1: 0.53, 2: 0.63, 7: 0.9}}, regime="restarts")
    found = row(regime_table(load_run(folder.path).evaluations), "restarts")
    assert (found["vs_plain_pairs"], found["vs_plain_lost"]) == (2, 2)
    assert found["vs_plain"] == pytest.approx(0.02)
    assert pd.isna(found["ensemble_accuracy"])
    assert pd.isna(found["ensemble_vs_plain"])


def test_sizes_are_kept_apart_and_without_a_plain_regime_the_first_one_stands_for_it(make_run):
    folder = make_run()
    for width in (20, 50):
        folder.evaluations("gradient-0000", {"mixed": [0.5, 0.6]}, width, regime="cold")
        folder.evaluations("gradient-0000", {"mixed": [0.5 + width / 1000, 0.6 + width / 1000]}, width, regime="warm")
    table = regime_table(load_run(folder.path).evaluations)
    assert set(table["plain"]) == {"cold"}
    warm = table[table["regime"] == "warm"].set_index("width")["vs_plain"]
    assert warm.to_dict() == {20: pytest.approx(0.02), 50: pytest.approx(0.05)}


def test_without_regimes_and_snapshots_there_is_neither_figure_nor_table(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.5, 0.6]})
    run = load_run(folder.path)
    assert regimes_and_ensembles_data(run).empty
    assert list(regime_tables(run)) == []
    empty = regime_table(load_run(make_run("none").path).evaluations)
    assert empty.empty
    assert list(empty.columns) == COLUMNS


def test_the_figure_has_usual_arms_beside_the_set(run):
    data = regimes_and_ensembles_data(run)
    assert set(data["trial_id"]) == {"gradient-0000"}
    assert data.groupby("arm")["regime"].nunique().to_dict() == {"mixed": 3, "relu": 3}


def test_tables_say_differences_in_points_and_which_arm_they_are_about(run):
    tables = list(regime_tables(run))
    mixed, ensembles, relu, _ = tables
    assert "mixed of gradient-0000" in mixed.caption
    assert "Ensembles of 2 snapshots" in ensembles.caption
    assert "relu beside the set of gradient-0000" in relu.caption
    cells = dict(zip([column.head for column in mixed.columns], mixed.rows[1], strict=True))
    assert (cells["size"], cells["regime"], cells["seeds"]) == ("width 50", "repulsion", str(SEEDS))
    assert cells["– plain [points]"].startswith("+1.8 [1.")
    cells = dict(zip([column.head for column in ensembles.columns], ensembles.rows[2], strict=True))
    assert cells["regime"] == "restarts"
    assert cells["all – one [points]"] == "+6.0 [6.0, 6.0]"
    assert list(regime_tables(run, arms=("mixed",))) == [mixed, ensembles]


def test_a_regime_without_snapshots_is_in_no_table_of_ensembles(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.5, 0.6]})
    ensembles(folder, "gradient-0000", "mixed", "restarts", [0.5, 0.6])
    of_regimes, of_ensembles = regime_tables(load_run(folder.path))
    assert [row[1] for row in of_regimes.rows] == ["plain", "restarts"]
    assert [row[1] for row in of_ensembles.rows] == ["restarts"]


def test_the_table_says_on_how_many_pairs_a_difference_rests_and_how_many_seeds_are_lost(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.5, 0.6, 0.5]})
    folder.evaluations("gradient-0000", {"mixed": dict.fromkeys(range(1, 9), 0.6)}, regime="restarts")
    (table,) = regime_tables(load_run(folder.path))
    plain, restarts = (dict(zip([column.head for column in table.columns], row, strict=True)) for row in table.rows)
    assert (plain["seeds"], restarts["seeds"]) == ("3", "2")
    assert restarts["– plain [points]"].endswith("], 7 seeds lost")
