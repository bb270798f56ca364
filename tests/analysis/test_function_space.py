"""Distances of learned functions, and the picture of what was found."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.figures.found_curves import found_curves, found_curves_data
from analysis.function_space import curve_distances, mean_density, measured_distances, parities, set_distance
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


BINS = 64
CENTRES = -8 + 16 * (np.arange(BINS) + 0.5) / BINS


def test_measured_distances_are_root_mean_squares_under_the_density():
    pair = curves(a0=lambda x: 0 * x, a1=lambda x: 3 * x, a2=lambda x: 0 * x + 2)
    uniform = measured_distances(pair, np.full(BINS, 1 / BINS)).to_numpy()
    assert uniform[0] == pytest.approx([0, 3 * 8 / math.sqrt(3), 2], rel=1e-3)
    assert (uniform == uniform.T).all()
    one_bin = measured_distances(pair, np.eye(BINS)[40]).to_numpy()  # from 2 to 2.25
    assert one_bin[0, 1] == pytest.approx(3 * math.sqrt((2.25**3 - 2**3) / (3 * 0.25)), rel=1e-4)


def test_under_a_normal_density_both_distances_agree():
    some = curves(a0=np.sin, a1=np.cos, a2=np.tanh)
    normal = np.exp(-0.5 * CENTRES**2)
    found, expected = measured_distances(some, 7 * normal), curve_distances(some)  # shares need not add to one
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), rel=0.02, abs=1e-12)
    assert list(found.index) == list(expected.index)


def test_functions_that_differ_where_no_unit_is_are_the_same_under_the_measured_density():
    pair = curves(a0=np.tanh, a1=lambda x: np.where(x > 4, 9.0, np.tanh(x)))
    left = measured_distances(pair, np.where(CENTRES < 3, 1.0, 0.0))
    assert left.iloc[0, 1] == 0
    assert curve_distances(pair).iloc[0, 1] > 0


def test_sets_are_matched_under_the_measured_density_too():
    table = measured_distances(curves(a0=np.sin, a1=np.cos, b0=np.cos, b1=np.sin), np.ones(BINS))
    assert set_distance(table, "a", "b") == 0


@pytest.mark.parametrize("density", [[0.0, 0.0], [1.0, -0.1], [1.0, math.nan], [[1.0]]])
def test_shares_that_are_no_density_are_refused(density):
    with pytest.raises(ValueError, match="a density must be shares >= 0 that are not all 0, and finite"):
        measured_distances(curves(a0=np.sin), density)


def test_the_density_of_networks_is_the_mean_of_those_measured():
    rows = pd.DataFrame({"preactivation_density": [[0.0, 1.0], None, [0.5, 0.5], math.nan]})
    assert mean_density(rows).tolist() == [0.25, 0.75]
    assert mean_density(rows.iloc[[1, 3]]) is None
    assert mean_density(rows.iloc[:0]) is None


def test_odd_and_even_energy_are_those_of_the_closed_forms():
    found = parities(curves(a0=lambda x: x, a1=np.cos, a2=lambda x: np.exp(x / 2), a3=lambda x: 0 * x))
    odd, even = found["odd"].to_list(), found["even"].to_list()
    assert (odd[0], even[0]) == pytest.approx((4 / 3, 0), rel=1e-3, abs=1e-12)
    assert (odd[1], even[1]) == pytest.approx((0, (1 + math.sin(4) / 4) / 2), rel=1e-2, abs=1e-12)
    # exp(x / 2) is sinh + cosh, whose mean squares on [-2, 2] are (sinh(2) / 2 ∓ 1) / 2
    assert (odd[2], even[2]) == pytest.approx(((math.sinh(2) / 2 - 1) / 2, (math.sinh(2) / 2 + 1) / 2), rel=5e-3)
    assert found["odd_share"].to_list()[:2] == pytest.approx([1, 0], abs=1e-12)
    assert math.isnan(found["odd_share"].iloc[3])


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
