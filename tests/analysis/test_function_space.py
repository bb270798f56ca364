"""Distances of learned functions, and the picture of what was found."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.figures import found_curves, found_curves_data
from analysis.function_space import curve_distances, set_distance
from analysis.load import load_run

X = np.linspace(-10, 10, 100)


def curves(**functions):
    """Names such as a0 mean type 0 of trial a."""
    return pd.concat(
        pd.DataFrame({"method": "gradient", "trial_id": name[0], "type_index": int(name[1]), "x": X, "y": f(X)})
        for name, f in functions.items()
    )


def test_distances_are_those_of_a_standard_normal_variable():
    table = curve_distances(curves(a0=lambda x: 0 * x, a1=lambda x: 0 * x + 2, a2=lambda x: 3 * x, a3=np.sin))
    found = table.to_numpy()
    assert found[0] == pytest.approx([0, 2, 3, math.sqrt((1 - math.exp(-2)) / 2)], rel=1e-6)
    assert (found == found.T).all()


def test_sets_are_matched_as_well_as_can_be():
    table = curve_distances(curves(a0=np.sin, a1=np.cos, b0=lambda x: np.cos(x) + 0.3, b1=lambda x: np.sin(x) - 0.1))
    assert set_distance(table, "a", "b") == pytest.approx(math.sqrt((0.3**2 + 0.1**2) / 2), rel=1e-9)
    assert set_distance(table, "a", "a") == 0


def test_sets_of_different_size_have_no_distance():
    table = curve_distances(curves(a0=np.sin, b0=np.cos, b1=np.sin))
    with pytest.raises(ValueError, match="sets must have equally many types to be matched, but a has 1, b 2"):
        set_distance(table, "a", "b")


def test_the_picture_shows_every_final_function_and_every_distance(full_run):
    data = found_curves_data(load_run(full_run.path))
    assert data["final"].all()
    types = len(data[["trial_id", "type_index"]].drop_duplicates())
    drawn = found_curves(data)
    left, right = drawn.axes
    names = left.texts  # beside the panel: inside it they would cover curves
    assert len(names) == len(left.lines) - 2 == types  # without the lines through 0
    assert len(right.texts) == types**2
    assert {text.get_text() for text in right.texts} >= {"0.00"}
