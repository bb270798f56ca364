"""The Pareto set against its definition, tried on every pair of points."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import figure, load_run, objectives_of, pareto_front, pareto_table, write_report
from analysis.figures.pareto import pareto_set_data
from analysis.pareto import pareto_sentence
from analysis.tables import pareto_tables

OBJECTIVES = ["score", "cross_size_drop", "num_params"]


def config(*objectives: str) -> dict[str, Any]:
    return {"name": "made-up", "ldnn": {"width": 50}, "search": {"objectives": list(objectives)}}


@pytest.fixture
def run(make_run: Any) -> Any:
    """Four trials, of which two are in the Pareto set; one without all values, one that failed."""
    folder = make_run(config=config(*OBJECTIVES))
    folder.trial("gradient-0000", score=0.6, cross_size_drop=0.03, num_params=900)
    folder.trial("gradient-0001", score=0.5, cross_size_drop=0.01, num_params=500)
    folder.trial("gradient-0002", score=0.5, cross_size_drop=0.03, num_params=900)
    folder.trial("evolution-0000", score=0.5, cross_size_drop=0.02, num_params=500)
    folder.trial("evolution-0001", score=0.9)
    folder.trial("evolution-0002", status="diverged", score=None, num_params=1)
    return load_run(folder.path)


def brute_force(values: np.ndarray, directions: tuple[str, ...]) -> list[bool]:
    def beats(one: Any, other: Any) -> bool:
        better = [a > b if way == "max" else a < b for a, b, way in zip(one, other, directions, strict=True)]
        worse = [a < b if way == "max" else a > b for a, b, way in zip(one, other, directions, strict=True)]
        return any(better) and not any(worse)

    return [not any(beats(other, one) for other in values) for one in values]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), objectives=st.integers(1, 4))
def test_the_front_is_what_nothing_dominates(data: st.DataObject, objectives: int) -> None:
    # Few different values, so that there are many ties and equal points.
    rows = st.lists(st.integers(-2, 2), min_size=objectives, max_size=objectives)
    values = np.array(data.draw(st.lists(rows, min_size=1, max_size=25)), dtype=float)
    directions = tuple(data.draw(st.lists(st.sampled_from(["max", "min"]), min_size=objectives, max_size=objectives)))
    assert pareto_front(values, directions).tolist() == brute_force(values, directions)


def test_a_front_of_many_random_points_is_that_of_brute_force() -> None:
    values = np.random.default_rng(0).normal(size=(300, 3))
    for directions in product(["max", "min"], repeat=3):
        assert pareto_front(values, directions).tolist() == brute_force(values, directions)


def test_no_points_have_no_front() -> None:
    assert pareto_front(np.empty((0, 2)), ["max", "min"]).tolist() == []


@pytest.mark.parametrize(
    ("values", "directions", "words"),
    [
        (np.zeros((3, 2)), ["max"], r"shape \(3, 2\) and \(max\)"),
        (np.zeros((3, 1)), ["maximise"], r"\(maximise\)"),
        (np.array([[np.nan]]), ["max"], "must be finite"),
    ],
)
def test_values_and_directions_that_do_not_fit_are_refused(values: Any, directions: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pareto_front(values, directions)


def test_the_table_holds_trials_with_all_values_front_first(run: Any) -> None:
    rows = pareto_table(run)
    assert objectives_of(run) == tuple(OBJECTIVES)
    assert rows[["trial_id", "front"]].to_numpy().tolist() == [
        ["gradient-0000", True],
        ["gradient-0001", True],
        ["evolution-0000", False],
        ["gradient-0002", False],
    ]


def test_it_is_told_in_words_in_a_table_and_in_the_report(run: Any) -> None:
    assert pareto_sentence(run) == (
        "Pareto set for high score, low cross_size_drop, low num_params: 2 of 4 trials that have all values: "
        "gradient-0000, gradient-0001."
    )
    (table,) = pareto_tables(run)
    assert [column.head for column in table.columns][:3] == [
        "trial", "score [%] (max)", "cross-size drop [points] (min)",
    ]  # fmt: skip
    assert table.rows[0] == ("gradient-0000", "60.0", "3.0", "900")
    page = write_report(run).read_text()
    assert "Pareto set: 2 of 4 trials" in page
    assert 'id="pareto_set"' in page


def test_the_figure_has_a_panel_per_pair_and_knows_both_fronts(run: Any) -> None:
    data = pareto_set_data(run)
    assert data.groupby(["x_objective", "y_objective"], sort=False).size().to_dict() == {
        ("cross_size_drop", "score"): 4,
        ("num_params", "score"): 4,
        ("num_params", "cross_size_drop"): 4,
    }
    pair = data[(data["x_objective"] == "num_params") & (data["y_objective"] == "cross_size_drop")]
    assert set(pair.loc[pair["pair_front"], "trial_id"]) == {"gradient-0001"}
    assert set(pair.loc[pair["front"], "trial_id"]) == {"gradient-0000", "gradient-0001"}
    drawn = figure(run, "pareto_set")
    assert len([axes for axes in drawn.axes if axes.axison]) == 3


def test_a_run_for_one_objective_has_no_pareto_set(make_run: Any) -> None:
    for folder in (make_run("none"), make_run("one", config=config("score"))):
        folder.trial("gradient-0000")
        run = load_run(folder.path)
        assert objectives_of(run) == ("score",)
        assert pareto_table(run).empty
        assert pareto_sentence(run) is None
        assert list(pareto_tables(run)) == []


def test_a_run_without_trials_yet_says_so(make_run: Any) -> None:
    run = load_run(make_run(config=config("score", "num_params")).path)
    assert pareto_sentence(run) == ("Pareto set for high score, low num_params: 0 of 0 trials that have all values.")
    assert pareto_set_data(run).empty
