"""Figures: each is a function from a run to a tidy frame, and one from that frame to a matplotlib figure.

`FIGURES` names them all.  Importing this package does not import matplotlib; drawing does.
"""

from analysis.figures.accuracy import (
    accuracy_by_width,
    accuracy_by_width_data,
    arm_violins,
    arm_violins_data,
    loss_violins,
    loss_violins_data,
)
from analysis.figures.advantage import advantage_by_width, advantage_by_width_data
from analysis.figures.bases import curves_by_base, curves_by_base_data
from analysis.figures.curvature import (
    curvature_by_arm,
    curvature_by_arm_data,
    spectral_densities,
    spectral_densities_data,
)
from analysis.figures.curves import activation_curves, activation_curves_data
from analysis.figures.epochs import accuracy_by_epoch, accuracy_by_epoch_data
from analysis.figures.found_curves import found_curves, found_curves_data
from analysis.figures.initial_variance import initial_variance, initial_variance_data
from analysis.figures.noise import gradient_noise, gradient_noise_data, noisy_descent, noisy_descent_data
from analysis.figures.pareto import pareto_set, pareto_set_data
from analysis.figures.passport import passport_heat_data, scale_passport_data, scale_passport_figure
from analysis.figures.progress import (
    accuracy_by_outer_step,
    accuracy_by_outer_step_data,
    best_so_far_data,
    best_so_far_figure,
    outer_loss,
    outer_loss_data,
)
from analysis.figures.questions import METHODS_COMPARED, QUESTIONS, REGIMES_COMPARED, by_question
from analysis.figures.recipe import FigureRecipe, MissingDataError
from analysis.figures.regimes import regimes_and_ensembles, regimes_and_ensembles_data
from analysis.figures.registry import FIGURES, figure
from analysis.figures.representation import accuracy_and_participation, accuracy_and_participation_data
from analysis.figures.spectral_bias import spectral_bias, spectral_bias_data
from analysis.figures.tuning import parameter_importance, parameter_importance_data, score_slices, score_slices_data

__all__ = [
    "FIGURES",
    "METHODS_COMPARED",
    "QUESTIONS",
    "REGIMES_COMPARED",
    "FigureRecipe",
    "MissingDataError",
    "accuracy_and_participation",
    "accuracy_and_participation_data",
    "accuracy_by_epoch",
    "accuracy_by_epoch_data",
    "accuracy_by_outer_step",
    "accuracy_by_outer_step_data",
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
    "by_question",
    "curvature_by_arm",
    "curvature_by_arm_data",
    "curves_by_base",
    "curves_by_base_data",
    "figure",
    "found_curves",
    "found_curves_data",
    "gradient_noise",
    "gradient_noise_data",
    "initial_variance",
    "initial_variance_data",
    "loss_violins",
    "loss_violins_data",
    "noisy_descent",
    "noisy_descent_data",
    "outer_loss",
    "outer_loss_data",
    "parameter_importance",
    "parameter_importance_data",
    "pareto_set",
    "pareto_set_data",
    "passport_heat_data",
    "regimes_and_ensembles",
    "regimes_and_ensembles_data",
    "scale_passport_data",
    "scale_passport_figure",
    "score_slices",
    "score_slices_data",
    "spectral_bias",
    "spectral_bias_data",
    "spectral_densities",
    "spectral_densities_data",
]
