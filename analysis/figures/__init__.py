"""Figures: each is a function from a run to a tidy frame, and one from that frame to a matplotlib figure.

`FIGURES` names them all.  Importing this package does not import matplotlib; drawing does.
"""

from analysis.figures.accuracy import accuracy_by_width, accuracy_by_width_data, arm_violins, arm_violins_data
from analysis.figures.advantage import advantage_by_width, advantage_by_width_data
from analysis.figures.curves import activation_curves, activation_curves_data
from analysis.figures.found_curves import found_curves, found_curves_data
from analysis.figures.pareto import pareto_set, pareto_set_data
from analysis.figures.passport import passport_heat_data, scale_passport_data, scale_passport_figure
from analysis.figures.progress import best_so_far_data, best_so_far_figure, outer_loss, outer_loss_data
from analysis.figures.registry import FIGURES, FigureRecipe, MissingDataError, figure

__all__ = [
    "FIGURES",
    "FigureRecipe",
    "MissingDataError",
    "accuracy_by_width",
    "accuracy_by_width_data",
    "activation_curves",
    "activation_curves_data",
    "advantage_by_width",
    "advantage_by_width_data",
    "arm_violins",
    "arm_violins_data",
    "best_so_far_data",
    "best_so_far_figure",
    "figure",
    "found_curves",
    "found_curves_data",
    "outer_loss",
    "outer_loss_data",
    "pareto_set",
    "pareto_set_data",
    "passport_heat_data",
    "scale_passport_data",
    "scale_passport_figure",
]
