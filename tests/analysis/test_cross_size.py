import numpy as np
import pandas as pd
import pytest

from analysis import cross_size_table, load_run
from analysis.cross_size import COLUMNS
from analysis.statistics import mean_interval


def table_of(folder, **options):
    return cross_size_table(load_run(folder.path).evaluations, **options)


def row(table, arm, width=50):
    return table[(table["arm"] == arm) & (table["width"] == width)].iloc[0]


@pytest.fixture
def known(make_run):
    """Ten seeds with a common part; every difference is known, and pure-1 and sin are the best."""
    folder = make_run()
    easy = np.linspace(0, 0.1, 10)
    folder.evaluations("gradient-0000", {"mixed": easy + 0.6, "pure-0": easy + 0.4, "pure-1": easy + 0.55})
    folder.evaluations("usual", {"relu": easy[::-1] + 0.5, "sin": easy + 0.58})
    return folder


def test_differences_and_rivals_are_those_put_in(known):
    mixed = row(table_of(known), "mixed")
    assert (mixed["seeds"], mixed["accuracy"]) == (10, pytest.approx(0.65))
    assert (mixed["vs_best_pure_arm"], mixed["vs_best_usual_arm"]) == ("pure-1", "sin")
    assert mixed["vs_relu"] == pytest.approx(0.1)
    assert mixed["vs_best_pure"] == pytest.approx(0.05)
    assert mixed["vs_best_usual"] == pytest.approx(0.02)
    assert (mixed["vs_best_usual_interval"], mixed["vs_best_usual_low"]) == ("point", pytest.approx(0.02))
    assert mixed["vs_best_usual_won"] == 1.0
    assert mixed["vs_relu_won"] == pytest.approx(0.95)


def test_intervals_are_those_of_the_statistics(known):
    mixed = row(table_of(known), "mixed")
    expected = mean_interval(np.linspace(0, 0.1, 10) + 0.6)
    assert (mixed["accuracy_low"], mixed["accuracy_high"]) == (
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )


def test_an_arm_is_not_compared_with_itself(known):
    table = table_of(known)
    assert np.isnan(row(table, "pure-1")["vs_best_pure"])
    assert np.isnan(row(table, "relu")["vs_relu"])
    assert row(table, "relu")["vs_best_usual"] == pytest.approx(-0.08)


def test_learned_size_is_marked(known):
    known.evaluations("gradient-0000", {"mixed": [0.6] * 10}, 100)
    known.evaluations("gradient-0000", {"mixed": [0.6] * 10}, 50, depth=2)
    table = table_of(known)
    marked = table[table["is_learned_size"]]
    assert set(zip(marked["width"], marked["depth"], strict=True)) == {(50, 1)}


def test_missing_rivals_are_named(known):
    known.evaluations("gradient-0000", {"mixed": [0.6] * 10}, 100)
    assert (
        row(table_of(known), "mixed", 100)["note"]
        == "no rows of relu, any pure type, any usual activation at this size"
    )
    assert row(table_of(known), "mixed")["note"] == ""


def test_unequal_seeds_are_intersected_and_the_loss_reported(make_run):
    folder = make_run()
    folder.evaluations("gradient-0000", {"mixed": {0: 0.6, 1: 0.7, 2: 0.9}})
    folder.evaluations("usual", {"relu": {1: 0.5, 2: 0.6, 7: 0.1, 8: 0.1}})
    mixed = row(table_of(folder), "mixed")
    assert (mixed["vs_relu_pairs"], mixed["vs_relu_lost"], mixed["vs_relu"]) == (2, 3, pytest.approx(0.25))


def test_one_seed_has_means_but_no_interval(make_run):
    folder = make_run()
    folder.evaluations("gradient-0000", {"mixed": [0.6]})
    folder.evaluations("usual", {"relu": [0.5]})
    mixed = row(table_of(folder), "mixed")
    assert mixed["vs_relu"] == pytest.approx(0.1)
    assert (mixed["vs_relu_interval"], mixed["accuracy_interval"]) == ("none", "none")
    assert np.isnan(mixed["vs_relu_low"])


def test_diverged_networks_are_counted_and_kept(make_run):
    folder = make_run()
    folder.evaluations("gradient-0000", {"mixed": [0.6, 0.6]})
    folder.evaluations("gradient-0000", {"mixed": {2: 0.1}}, diverged=True)
    mixed = row(table_of(folder), "mixed")
    assert (mixed["diverged"], mixed["seeds"], mixed["accuracy"]) == (1, 3, pytest.approx(1.3 / 3))


def test_usual_arms_count_only_under_the_same_conditions(known):
    other = {"relu": [0.99] * 10}
    known.evaluations("usual", other, 50, lr_protocol="per_arm_size")
    known.evaluations("usual", other, 50, split="val")
    known.evaluations("usual", other, 50, task="digits")
    known.evaluations("usual", other, 50, depth=3)
    assert row(table_of(known), "mixed")["vs_relu"] == pytest.approx(0.1)


def test_the_other_split_is_a_table_of_its_own(known):
    known.evaluations("gradient-0000", {"mixed": [0.7] * 10}, split="val")
    assert set(table_of(known, split="val")["arm"]) == {"mixed"}


def test_no_rows_give_the_same_columns_and_types(known, make_run):
    empty, full = table_of(make_run("empty")), table_of(known)
    assert list(empty.columns) == COLUMNS
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_several_sets_have_their_own_rows_gradient_first(full_run):
    table = table_of(full_run)
    assert list(table["trial_id"].unique()) == ["gradient-0002", "evolution-0002"]
    assert len(table) == 2 * 4 * 7


def test_an_arm_of_a_set_that_is_named_like_a_usual_one_gives_way(known):
    known.evaluations("gradient-0000", {"relu": [0.99] * 10})
    mixed = row(table_of(known), "mixed")
    assert mixed["vs_relu"] == pytest.approx(0.1)
    assert mixed["note"] == "left out, because named like a usual activation: relu"


def test_the_order_of_rows_does_not_matter_and_of_the_same_network_the_first_counts(full_run):
    rows = load_run(full_run.path).evaluations
    expected = cross_size_table(rows)
    rng = np.random.default_rng(0)
    for _ in range(3):
        mixed = rows.iloc[rng.permutation(len(rows))]
        pd.testing.assert_frame_equal(cross_size_table(mixed), expected)
        # Said again with another accuracy, each time behind the first, and overlapping with its neighbours.
        again = rows.assign(accuracy=rows["accuracy"] / 2).iloc[rng.permutation(len(rows))[: len(rows) // 2]]
        pd.testing.assert_frame_equal(cross_size_table(pd.concat([mixed, again])), expected)
        categorical = mixed.astype({name: "category" for name in mixed if mixed[name].dtype == "str"})
        pd.testing.assert_frame_equal(cross_size_table(categorical), expected)
