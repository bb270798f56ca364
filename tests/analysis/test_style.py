"""Colours that colour-blind readers can tell apart, text that can be read, ticks and labels that have room."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy.optimize import minimize

from analysis.figures.labels import spread
from analysis.style import ARM_COLOURS, METHOD_COLOURS, OTHER_ARMS, canvas, look, round_ticks, text_colour

# What is seen without one kind of cones, in linear RGB (Machado, Oliveira, Fernandes 2009, severity 1).
SIGHT = {
    "all cones": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Linear RGB to OKLab (Ottosson 2020), in which equal distances look about equally different.
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def linear(colours):
    values = np.array([to_rgb(colour) for colour in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def smallest_distance(colours, sight):
    seen = np.clip(linear(colours) @ np.array(SIGHT[sight]).T, 0, 1)
    lab = np.cbrt(seen @ np.array(TO_CONES).T) @ np.array(TO_LAB).T
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distances[~np.eye(len(lab), dtype=bool)].min()


@pytest.mark.parametrize("sight", SIGHT)
def test_arms_can_be_told_apart(sight):
    assert smallest_distance([*ARM_COLOURS.values(), OTHER_ARMS], sight) >= 0.06


@pytest.mark.parametrize("sight", SIGHT)
def test_methods_can_be_told_apart(sight):
    assert smallest_distance([*METHOD_COLOURS.values()], sight) >= 0.15


def test_the_simulation_sees_red_and_green_as_alike_without_green_cones():
    red, green = "#c06000", "#808000"
    assert smallest_distance([red, green], "deuteranopia") < 0.5 * smallest_distance([red, green], "all cones")


@pytest.mark.parametrize("colour", [*ARM_COLOURS.values(), OTHER_ARMS, *METHOD_COLOURS.values(), "#ffffff"])
def test_names_in_the_colour_of_an_arm_can_be_read_on_white(colour):
    luminance = linear([text_colour(colour)])[0] @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_a_dark_colour_is_left_as_it_is():
    assert text_colour("#14265e") == "#14265e"


@pytest.mark.parametrize("wanted", [[0.5, 0.5], [0.1, 0.12, 0.11, 0.9], [0.0, 0.0, 1.0], [0.97, 0.3, 0.98, 0.99]])
def test_labels_move_as_little_as_they_can(wanted):
    gap = 0.1
    found = spread(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert np.diff(found[order]).min() >= gap - 1e-9
    assert found.min() >= gap / 2 - 1e-9
    assert found.max() <= 1 - gap / 2 + 1e-9
    limits = [{"type": "ineq", "fun": lambda p, a=a, b=b: p[b] - p[a] - gap} for a, b in pairwise(order)]
    bounds = [(gap / 2, 1 - gap / 2)] * len(wanted)
    best = minimize(lambda p: np.square(p - wanted).sum(), found, constraints=limits, bounds=bounds, method="SLSQP")
    assert np.square(found - wanted).sum() <= best.fun + 1e-6


def test_labels_without_room_are_set_evenly_around_the_middle():
    assert spread([0.2, 0.1, 0.9], 0.5) == pytest.approx([0.5, 0.0, 1.0])


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.009, 0.03, ["0.01", "0.02"]),
        (0.9, 1100.0, ["1", "10", "100", "1000"]),
        (30.0, 210.0, ["50", "100", "200"]),
        (14.0, 36.0, ["15", "20", "25", "30"]),
    ],
)
def test_logarithmic_axes_have_a_few_round_numbers(low, high, names):
    with look():
        _, grid = canvas()
        round_ticks(grid[0, 0].xaxis, low, high)
    assert [label.get_text() for label in grid[0, 0].get_xticklabels()] == names
    assert grid[0, 0].get_xlim() == (low, high)
