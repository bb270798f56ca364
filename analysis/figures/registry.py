"""All figures by name: how each is made, what data it needs, and which command supplies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

from analysis.figures.accuracy import accuracy_by_width, accuracy_by_width_data, arm_violins, arm_violins_data
from analysis.figures.advantage import advantage_by_width, advantage_by_width_data
from analysis.figures.curves import activation_curves, activation_curves_data
from analysis.figures.found_curves import found_curves, found_curves_data
from analysis.figures.pareto import pareto_set, pareto_set_data
from analysis.figures.passport import scale_passport_data, scale_passport_figure
from analysis.figures.progress import best_so_far_data, best_so_far_figure, outer_loss, outer_loss_data
from analysis.load import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MissingDataError(ValueError):
    """A run has no rows for a figure; the words name the command that makes them."""


@dataclass(frozen=True)
class FigureRecipe:
    """How one figure is made.

    Attributes:
        title: what the figure shows, in a few words.
        caption: how to read it.
        data: run → the tidy frame that is drawn; empty if the run has no rows for it.
        draw: that frame → the figure.
        needs: the rows it is made from.
        command: what makes those rows; RUN stands for the run folder.
    """

    title: str
    caption: str
    data: Callable[[Run], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    needs: str
    command: str


FIGURES: Final[dict[str, FigureRecipe]] = {
    "activation_curves": FigureRecipe(
        "Learned activations",
        "How the activation of each type changed during the search, from violet (first) to red (last, thick); "
        "the dashed line is the base function they started from.",
        activation_curves_data,
        activation_curves,
        "recorded curves of at least one trial",
        "ldnn resume RUN",
    ),
    "arm_violins": FigureRecipe(
        "Accuracy where the set was learned",
        "Each dot is a network trained from scratch with another seed, each short bar a mean; "
        "the dashed line is the mean of ReLU.",
        arm_violins_data,
        arm_violins,
        "evaluations at the width and depth where a set was learned",
        "ldnn evaluate RUN",
    ),
    "accuracy_by_width": FigureRecipe(
        "Accuracy by width",
        "Boxes hold the middle half of the seeds, the white line is the median, whiskers reach 1.5 box lengths.",
        accuracy_by_width_data,
        accuracy_by_width,
        "evaluations of a learned set",
        "ldnn evaluate RUN",
    ),
    "advantage_by_width": FigureRecipe(
        "Advantage of the mix by width",
        "Mean difference paired by seed with 95 % bootstrap intervals: above zero the mix is better. "
        "The best pure and usual arms are chosen at each width by the same rows, which favours them.",
        advantage_by_width_data,
        advantage_by_width,
        "evaluations of the arm mixed and of its rivals with common seeds",
        "ldnn evaluate RUN",
    ),
    "scale_passport": FigureRecipe(
        "Scale passport",
        "Mean difference of the mix to each rival, paired by seed, with 95 % intervals; framed where the set was "
        "learned. Triangles: better or worse by signed ranks with Holm's correction over sizes; =: an advantage of one "
        "percentage point (5 % of a loss) can be excluded.",
        scale_passport_data,
        scale_passport_figure,
        "evaluations of the arm mixed and of its rivals with common seeds",
        "ldnn evaluate RUN",
    ),
    "best_so_far": FigureRecipe(
        "Gradient against evolution",
        "Best validation accuracy so far at equal inner steps (left) and equal time (right), up to the smaller budget: "
        "mean over trials with a 95 % interval, single trials as thin lines.",
        best_so_far_data,
        best_so_far_figure,
        "recorded steps with a validation accuracy",
        "ldnn resume RUN",
    ),
    "found_curves": FigureRecipe(
        "What the methods found",
        "The final functions of each method's set on one picture, and their root mean square distances under a "
        "standard normal density.",
        found_curves_data,
        found_curves,
        "recorded curves of at least one trial",
        "ldnn resume RUN",
    ),
    "outer_loss": FigureRecipe(
        "Learning curves of the search",
        "Outer loss of every trial; the darker the line, the later the trial.",
        outer_loss_data,
        outer_loss,
        "steps of at least one trial",
        "ldnn resume RUN",
    ),
    "pareto_set": FigureRecipe(
        "What one objective costs in another",
        "Each mark is a trial; strong marks are in the Pareto set of all objectives, which no other trial beats in all "
        "of them; the line is the front of the two objectives of a panel.",
        pareto_set_data,
        pareto_set,
        "trials of a search for several objectives",
        'ldnn search RECIPE --set \'search.objectives=["score", "num_params"]\'',
    ),
}
"""Every figure by its name, in the order of the report."""


def figure(run: Run, name: str) -> Figure:
    """Make one figure of a run.

    Raises:
        ValueError: there is no figure of that name.
        MissingDataError: the run has no rows for it.
    """
    if name not in FIGURES:
        raise ValueError(f"A figure must be one of {', '.join(FIGURES)}, but got {name!r}.")
    recipe = FIGURES[name]
    data = recipe.data(run)
    if data.empty:
        raise MissingDataError(f"{name} needs {recipe.needs}, but {run.name} has none; `{recipe.command}` makes them.")
    return recipe.draw(data)
