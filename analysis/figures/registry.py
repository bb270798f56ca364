"""All figures by the question they answer: how each is made, what data it needs, and which command supplies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pandas as pd

from analysis.figures import (
    accuracy,
    advantage,
    bases,
    curvature,
    curves,
    epochs,
    found_curves,
    initial_variance,
    noise,
    pareto,
    passport,
    progress,
    regimes,
    representation,
    spectral_bias,
    tuning,
)
from analysis.importance import FEWEST
from analysis.load import Run
from analysis.style import Figure

_EVALUATE: Final = "ldnn evaluate RUN"
_RESUME: Final = "ldnn resume RUN"

METHODS_COMPARED: Final = "Gradient or evolution, and how did the search go?"
"""The question that has an answer without figures too: the comparison of the methods."""

REGIMES_COMPARED: Final = "What do training regimes and ensembles of snapshots change?"
"""The question that tables answer beside the figure."""


class MissingDataError(ValueError):
    """A run has no rows for a figure; the words name the command that makes them."""


@dataclass(frozen=True)
class FigureRecipe:
    """How one figure is made.

    Attributes:
        title: what the figure shows, in a few words.
        caption: what to see, and how to read it.
        data: run → the tidy frame that is drawn; empty if the run has no rows for it.
        draw: that frame, not empty → the figure.
        needs: the rows it is made from.
        command: what makes those rows; RUN stands for the run folder, RECIPE for the recipe of a new run.
        limits: what it cannot say.
    """

    title: str
    caption: str
    data: Callable[[Run], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    needs: str
    command: str
    limits: str = ""


QUESTIONS: Final[dict[str, dict[str, FigureRecipe]]] = {
    "At which sizes does the mix win?": {
        "scale_passport": FigureRecipe(
            "Scale passport",
            "Mean difference of the mix to each rival, paired by seed, with 95 % intervals; framed where the set was "
            "learned. Triangles: better or worse by signed ranks with Holm's correction over sizes; =: an advantage "
            "of one percentage point (5 % of a loss) can be excluded.",
            passport.scale_passport_data,
            passport.scale_passport_figure,
            "evaluations of the arm mixed and of its rivals with common seeds",
            _EVALUATE,
            "Only the sizes, tasks and networks that were evaluated, each with the learning rates of its protocol.",
        ),
        "advantage_by_width": FigureRecipe(
            "Advantage of the mix by width",
            "Mean difference paired by seed with 95 % bootstrap intervals: above zero the mix is better. The best "
            "pure and usual arms are chosen at each width by the same rows, which favours them.",
            advantage.advantage_by_width_data,
            advantage.advantage_by_width,
            "evaluations of the arm mixed and of its rivals with common seeds",
            _EVALUATE,
            "Each interval stands for itself: of twenty about one misses. Between and beyond the widths nothing is "
            "known.",
        ),
        "accuracy_by_width": FigureRecipe(
            "Accuracy by width",
            "A panel for each arm; at several depths a size is width × depth. Boxes hold the middle half of the "
            "seeds, the white line is the median, whiskers reach 1.5 box lengths; the orange line repeats the medians "
            "of the mix: where it runs above the boxes, the mix wins.",
            accuracy.accuracy_by_width_data,
            accuracy.accuracy_by_width,
            "evaluations of a learned set",
            _EVALUATE,
            "Boxes show the spread of networks and not the certainty of a difference; arms with a learning rate in "
            "common may be ranked by how well it suits them.",
        ),
        "accuracy_by_epoch": FigureRecipe(
            "Accuracy against epochs, by depth",
            "Mean accuracy after every epoch with a band of one standard error, a panel for each number of hidden "
            "layers, at the width where the set was learned. A lead that shrinks to the right is a faster start and "
            "no better end.",
            epochs.accuracy_by_epoch_data,
            epochs.accuracy_by_epoch,
            "evaluations that keep the accuracy after every epoch, best at several depths",
            f"{_EVALUATE} --depths 1,2,3",
            "Nothing is chosen by these curves: verdicts use the last epoch. Longer training may reverse an order.",
        ),
    },
    "Does the mix win where it was learned?": {
        "arm_violins": FigureRecipe(
            "Accuracy where the set was learned",
            "Each dot is a network trained from scratch with another seed, each short bar a mean; the dashed line is "
            "the mean of ReLU.",
            accuracy.arm_violins_data,
            accuracy.arm_violins,
            "evaluations at the width and depth where a set was learned",
            _EVALUATE,
            "Networks of one seed are paired across arms, which violins cannot show: small differences that overlap "
            "here may be sure, see the advantage by width. It says nothing of other sizes.",
        ),
        "loss_violins": FigureRecipe(
            "Error in regression where the set was learned",
            "Each dot is a network, each short bar a geometric mean, low is good; the axis is logarithmic and the "
            "dashed line is ReLU's. The number with a † above an arm counts networks that diverged and have no loss.",
            accuracy.loss_violins_data,
            accuracy.loss_violins,
            "evaluations on a task that is judged by its loss",
            "ldnn search RECIPE --set task.name=van_der_pol",
            "One system with one parameter: it says nothing of other systems, nor of orbits that are rolled out for "
            "long.",
        ),
    },
    "What was found?": {
        "activation_curves": FigureRecipe(
            "Learned activations",
            "How the activation of each type changed during the search, from violet (first) to red (last, thick); the "
            "dashed line is the base function they started from.",
            curves.activation_curves_data,
            curves.activation_curves,
            "recorded curves of at least one trial",
            _RESUME,
            "A change far from 0, where few pre-activations lie, looks large and matters little.",
        ),
        "found_curves": FigureRecipe(
            "What the methods found",
            "The final functions of each method's set on one picture, and their root mean square distances under a "
            "standard normal density.",
            found_curves.found_curves_data,
            found_curves.found_curves,
            "recorded curves of at least one trial",
            _RESUME,
            "Real pre-activations are only roughly standard normal, and sets that differ as functions may do equally "
            "well.",
        ),
        "curves_by_base": FigureRecipe(
            "What was learned from different base functions",
            "The best set from each base function (dashed), a column for each number of types if there are several, "
            "with the odd share of each curve's energy on [-2, 2]: 100 % is an odd function, 0 % an even one; a "
            "constant counts as even. The squares say how far apart the sets are.",
            bases.curves_by_base_data,
            bases.curves_by_base,
            "trials from at least two base functions",
            """ldnn search RECIPE --set 'search.space.base={choices=["elu", "sin", "tanh"]}'""",
            "One set stands for each base, chosen by its score: another seed may find another one.",
        ),
    },
    "Why might a mix do better?": {
        "accuracy_and_participation": FigureRecipe(
            "Accuracy and participation ratio",
            "Each dot is a network; the region of an arm holds half of its density (Gaussian kernels), the thin lines "
            "lead to the means. Up: the layer uses more directions; right: more accurate.",
            representation.accuracy_and_participation_data,
            representation.accuracy_and_participation,
            "evaluations that measure the participation ratio",
            _EVALUATE,
            "That both are high together is no cause of either; r from few rows is biased downwards, for all arms "
            "alike.",
        ),
        "curvature_by_arm": FigureRecipe(
            "How sharply the loss bends",
            "Means over networks with 95 % intervals where the set was learned; the dashed line is the mix. A low "
            "trace and a high share of eigenvalues near zero mean a flat minimum.",
            curvature.curvature_by_arm_data,
            curvature.curvature_by_arm,
            "evaluations that measure the curvature",
            f"{_EVALUATE} --curvature batched",
            "Cross-entropy with large weights looks flat: compare the trace only between arms of like weight norm. "
            "Flat is no proof of general.",
        ),
        "spectral_densities": FigureRecipe(
            "Densities of Hessian eigenvalues",
            "Mean density over networks on a logarithmic axis, a panel for each arm; the orange line repeats the mix. "
            "The peak at zero are directions in which the loss is flat, what stands far to the right are the sharp "
            "ones.",
            curvature.spectral_densities_data,
            curvature.spectral_densities,
            "spectral densities of evaluated networks",
            f"{_EVALUATE} --curvature batched",
            "Each eigenvalue is a bell of the width that the table states: detail finer than that is smoothed away.",
        ),
        "spectral_bias": FigureRecipe(
            "Which frequencies are fitted first",
            "Median inner steps until a sinusoid of that frequency, as part of a sum of them, is fitted to 10 % "
            "error. A line that rises steeply is a strong spectral bias; where it ends, most fits never got there.",
            spectral_bias.spectral_bias_data,
            spectral_bias.spectral_bias,
            "fits of sums of sinusoids",
            "ldnn search RECIPE --set evaluation.spectral_bias=true",
            "A function of one variable, and not the task; a fast fit of high frequencies may go with worse "
            "generalisation.",
        ),
        "initial_variance": FigureRecipe(
            "How large the signal is before the first training step",
            "Variance over rows and units of what goes into each activation (left) and comes out of it (right), in "
            "the widest networks before they are trained: mean over seeds, from six seeds on with 95 % intervals; "
            "dashed, the mix with another gain. A line that rises or falls by the same factor in every layer is a "
            "signal that blows up or dies; one that ends is no longer finite.",
            initial_variance.initial_variance_data,
            initial_variance.initial_variance,
            "networks that are measured before their first step",
            f"{_EVALUATE} --initial-variance",
            "A network that starts well may still train badly; batch normalisation resets the scale after each "
            "activation.",
        ),
        "gradient_noise": FigureRecipe(
            "Gradient noise against sharpness, measured",
            "Cosine between the covariance of one row's gradient and the Hessian, for each network: near 1 the noise "
            "of mini-batches pushes along the sharp directions.",
            noise.gradient_noise_data,
            noise.gradient_noise,
            "evaluations that measure the gradient noise",
            "ldnn search RECIPE --set curvature.method=batched --set curvature.noise=true",
            "Measured at the end of training only. For a model that fits its labels' probabilities the two agree by "
            "theory, so that alignment is expected and favours no arm.",
        ),
        "noisy_descent": FigureRecipe(
            "Noisy descent in a toy landscape, simulated",
            "Training as dθ = -∇L dt + sqrt(2D) dW in a made-up loss with a sharp and a flat minimum of equal depth. "
            "Left, three paths from the sharp one with D = T·H; right, the share of 300 paths that are in the flat "
            "one, against noise that is the same everywhere: the mean of D in both minima.",
            noise.noisy_descent_data,
            noise.noisy_descent,
            "a trial to stand beside",
            _RESUME,
            "Two weights and a formula: it illustrates the claim that flat minima win, and is no evidence for it. "
            "Nothing of this run is in it.",
        ),
    },
    REGIMES_COMPARED: {
        "regimes_and_ensembles": FigureRecipe(
            "Training regimes, and ensembles of their snapshots",
            "A row of panels for each arm, a panel for each width: mean accuracy over seeds with 95 % intervals, "
            "after the last step (filled circle), of the ensemble of the snapshots (diamond) and of a snapshot alone "
            "(ring). The dashed line is the plain regime's network. A diamond far right of its ring is an ensemble "
            "whose members err on different rows.",
            regimes.regimes_and_ensembles_data,
            regimes.regimes_and_ensembles,
            "evaluations under several training regimes, or with snapshots",
            """ldnn search RECIPE --set 'evaluation.regimes=[{name="restarts", schedule="restarts", stepsize=5}]'""",
            "Intervals hold the spread over seeds, which pairing by seed takes out: differences are in the table. "
            "Each regime has the settings it was given; others may do better.",
        ),
    },
    METHODS_COMPARED: {
        "best_so_far": FigureRecipe(
            "Gradient against evolution",
            "Best validation accuracy so far (in regression skill: 1 - root mean squared error of standardised "
            "targets) at equal inner steps (left) and equal time (right), up to the smaller budget: mean over trials "
            "with a 95 % interval, single trials as thin lines.",
            progress.best_so_far_data,
            progress.best_so_far_figure,
            "recorded steps with a validation accuracy",
            _RESUME,
            "Trials of a method differ in what the sampler chose, so the band holds that too; time is that of the "
            "machines at hand; the highest of noisy probes is more than what a trial delivers, the set after its last "
            "step.",
        ),
        "accuracy_by_outer_step": FigureRecipe(
            "What a set is worth as the search goes on",
            "Validation accuracy of fresh networks with the set as it was at a recorded step, a line for each trial; "
            "at 0 nothing is learned yet. In regression it is skill: 1 - root mean squared error of standardised "
            "targets.",
            progress.accuracy_by_outer_step_data,
            progress.accuracy_by_outer_step,
            "recorded steps with a validation accuracy",
            _RESUME,
            "Few fresh networks at each step, so single dots are uncertain; and the size is that of the search alone.",
        ),
        "outer_loss": FigureRecipe(
            "Learning curves of the search",
            "Outer loss of every trial; the darker the line, the later the trial.",
            progress.outer_loss_data,
            progress.outer_loss,
            "steps of at least one trial",
            _RESUME,
            "Trials may train for different lengths and at different rates, so a lower loss is not always a better "
            "set. Evolution's is that of its best candidate, the gradient's that of its one set: columns do not "
            "compare.",
        ),
        "score_slices": FigureRecipe(
            "Score against what was sampled",
            "Each dot is a trial, the later the darker; the ring is the best of its method.",
            tuning.score_slices_data,
            tuning.score_slices,
            "at least two trials of a method with sampled values",
            "ldnn search RECIPE --set search.trials=20",
            "A slice hides the other values, and the sampler looked where it expected good scores: an empty place is "
            "not a bad one.",
        ),
        "parameter_importance": FigureRecipe(
            "Which sampled values mattered",
            f"PED-ANOVA: how far the values of {tuning.BEST_WORDS}, differ from those of all trials (Pearson "
            "divergence of their densities), as shares of the sum.",
            tuning.parameter_importance_data,
            tuning.parameter_importance,
            f"at least {FEWEST} finished trials of a method",
            "ldnn search RECIPE --set search.trials=40",
            "Each value by itself, without interactions, within the ranges that were sampled.",
        ),
        "pareto_set": FigureRecipe(
            "What one objective costs in another",
            "Each mark is a trial; strong marks are in the Pareto set of all objectives, which no other trial beats "
            "in all of them; the line is the front of the two objectives of a panel.",
            pareto.pareto_set_data,
            pareto.pareto_set,
            "trials of a search for several objectives",
            'ldnn search RECIPE --set \'search.objectives=["score", "num_params"]\'',
            "Scores are means over few networks: marks near the front may belong to it.",
        ),
    },
}
"""Question → name → figure, in the order of the report."""

FIGURES: Final = {name: recipe for recipes in QUESTIONS.values() for name, recipe in recipes.items()}
"""Every figure by its name."""


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
