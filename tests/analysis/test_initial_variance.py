"""The signal before training as a table over seeds, and what of it is drawn."""

import numpy as np
import pytest

from analysis import initial_variance_table, load_run, mean_interval
from analysis.figures.initial_variance import initial_variance, initial_variance_data
from search.schema import USUAL_TRIAL

SIGNALS = np.random.default_rng(2).lognormal(0, 0.3, (8, 3))
"""Seeds and layers."""


def start(trial_id, arm, signals=SIGNALS, **values):
    method = None if trial_id == USUAL_TRIAL else trial_id.rsplit("-", 1)[0]
    identity = {"trial_id": trial_id, "method": method, "arm": arm, "architecture": "mlp", "mixing": "within_layer"}
    for seed, signal in enumerate(signals):
        halved = [None if value is None else value / 2 for value in signal]
        both = {"variance_in": list(signal), "variance_out": halved}
        yield identity | {"width": 50, "depth": 3, "seed": seed} | both | values


@pytest.fixture
def folder(make_run):
    made = make_run()
    made.trial("gradient-0000")
    made.evaluations("gradient-0000", {"mixed": [0.6]})
    return made


def table_of(folder):
    return initial_variance_table(load_run(folder.path).table("initial_variance"))


def test_means_and_intervals_are_over_seeds_layer_by_layer(folder):
    folder.write("initial_variance", start("gradient-0000", "mixed"))
    table = table_of(folder)
    assert table["layer"].tolist() == [1, 2, 3]
    assert set(table["networks"]) == {8}
    for layer, row in enumerate(table.to_dict("records")):
        expected = mean_interval(SIGNALS[:, layer])
        ends = [row[f"variance_in{end}"] for end in ("", "_low", "_high")]
        assert ends == pytest.approx([expected.value, expected.low, expected.high])
        assert row["variance_out"] == pytest.approx(expected.value / 2)
        assert (row["variance_in_interval"], row["variance_in_not_finite"]) == ("bca", 0)


def test_networks_that_have_blown_up_are_counted_and_in_no_mean(folder):
    signals = [[1.0, 1e20, None], [3.0, None, None]]
    folder.write("initial_variance", start("gradient-0000", "mixed", signals))
    table = table_of(folder)
    assert table["variance_in"].tolist() == pytest.approx([2.0, 1e20, np.nan], nan_ok=True)
    assert table["variance_in_not_finite"].tolist() == [0, 1, 2]
    initial_variance(initial_variance_data(load_run(folder.path))).draw_without_rendering()


def test_the_figure_shows_the_widest_networks_usual_arms_beside_each_mixing_and_controls_of_the_gain(folder):
    for mixing in ("within_layer", "per_block"):
        for arm in ("mixed", "mixed-normalized", "shuffled"):
            folder.write("initial_variance", start("gradient-0000", arm, mixing=mixing))
    folder.write("initial_variance", start("gradient-0000", "mixed", width=20))
    folder.write("initial_variance", start(USUAL_TRIAL, "relu"))
    folder.write("initial_variance", start(USUAL_TRIAL, "relu", width=20))
    data = initial_variance_data(load_run(folder.path))
    assert set(data["width"]) == {50}
    arms = data.groupby("mixing")["arm"].agg(set).to_dict()
    assert arms == {mixing: {"mixed", "mixed-normalized", "relu"} for mixing in ("within_layer", "per_block")}
    drawn = initial_variance(data)
    assert len(drawn.axes) == 4  # what goes in and comes out, for both mixings
    assert {axes.get_yscale() for axes in drawn.axes} == {"log"}


def test_without_rows_there_is_an_empty_table(folder):
    assert table_of(folder).empty
    assert initial_variance_data(load_run(folder.path)).empty
