"""``ldnn interpolate``: how well other ways to hold a function would serve the functions of a card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from jobs.errors import InputError
from jobs.rational import Rational
from jobs.terminal import print_json, print_table
from ldnn_core.card import ActivationCard
from ldnn_core.card_file import read_card
from ldnn_core.card_rules import CardError
from ldnn_core.interpolation import DEGREES, INTERPOLANTS, Maker, Reals, Worst, polynomial_maker, worst_errors
from ldnn_core.subnetwork import exact_values_and_slopes

POINTS: Final = (26, 51, 101, 201, 401, 1281)
"""Known points; 101 are the paper's hundred intervals, 1281 the engine's table on [-10, 10]."""
_BETWEEN: Final = 20_000


def show_interpolation(path: Path, points: tuple[int, ...], *, as_json: bool) -> None:
    """Print the errors of all interpolants of a card's functions.

    Raises:
        InputError: the card cannot be read, or is not sound.
    """
    try:
        card = read_card(path)
    except (CardError, OSError) as error:
        raise InputError(str(error)) from error
    rows = interpolation_rows(card, points)
    if as_json:
        print_json(rows)
        return
    low, high = card.spec.grid.ends
    numbers = ("points", "value", "slope", "second derivative")
    cells = [
        (row["interpolant"], str(row["points"]), *(f"{row[name]:.1e}" for name in ("value", "slope", "curvature")))
        for row in rows
    ]
    title = f"largest errors on [{low:g}, {high:g}] of any type"
    print_table(("interpolant", *numbers), cells, title=title, right=numbers, whole=("interpolant",))


def interpolation_rows(card: ActivationCard, points: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row per interpolant and number of points: the errors of the worst of the card's types.

    A polynomial or a spline that needs more points than there are has no row.
    """
    makers: dict[str, Maker] = dict(INTERPOLANTS)
    makers |= {f"polynomial, degree {degree}": polynomial_maker(degree) for degree in DEGREES}
    makers["rational (AAA)"] = Rational.near
    low, high = card.spec.grid.ends
    # An irrational share of a step, so that none of these points is a known one.
    between = low + (np.arange(_BETWEEN) + 0.5**0.5) / _BETWEEN * (high - low)
    exact = exact_functions(card, between)
    rows: list[dict[str, Any]] = []
    for name, make in makers.items():
        for count in points:
            x = np.linspace(low, high, count)
            values, slopes, _ = exact_functions(card, x)
            try:
                made = [make(x, y, s) for y, s in zip(values, slopes, strict=True)]
            except ValueError:
                continue
            errors = [
                worst_errors(own, between, (value, slope, curvature))
                for own, value, slope, curvature in zip(made, *exact, strict=True)
            ]
            rows.append({"interpolant": name, "points": count, **asdict(_worst(errors))})
    return rows


def exact_functions(card: ActivationCard, x: Reals) -> tuple[Reals, Reals, Reals]:
    """Value, slope and second derivative of the sub-networks at points (n,), each (K, n)."""
    with torch.enable_grad():
        a = torch.from_numpy(x).expand(card.spec.num_types, -1).clone().requires_grad_()
        value, slope = exact_values_and_slopes(card.spec, card.genomes, a)
        (curvature,) = torch.autograd.grad(slope.sum(), a)
    return value.detach().numpy(), slope.detach().numpy(), curvature.numpy()


def _worst(errors: list[Worst]) -> Worst:
    return Worst(*(max(getattr(one, name) for one in errors) for name in ("value", "slope", "curvature")))
