"""The questions of the report, and the figures that each is answered by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

METHODS_COMPARED: Final = "Gradient or evolution, and how did the search go?"
"""The question that has an answer without figures too: the comparison of the methods."""

REGIMES_COMPARED: Final = "What do training regimes and ensembles of snapshots change?"
"""The question that tables answer beside the figure."""

QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "At which sizes does the mix win?": (
        "scale_passport",
        "advantage_by_width",
        "accuracy_by_width",
        "accuracy_by_epoch",
    ),
    "Does the mix win where it was learned?": ("arm_violins", "loss_violins"),
    "What was found?": ("activation_curves", "found_curves", "curves_by_base"),
    "Why might a mix do better?": (
        "accuracy_and_participation",
        "curvature_by_arm",
        "spectral_densities",
        "spectral_bias",
        "initial_variance",
        "gradient_noise",
        "noisy_descent",
    ),
    REGIMES_COMPARED: ("regimes_and_ensembles",),
    METHODS_COMPARED: (
        "best_so_far",
        "accuracy_by_outer_step",
        "outer_loss",
        "score_slices",
        "parameter_importance",
        "pareto_set",
    ),
}
"""Question → names of figures, in the order of the report; a name that the registry does not know is passed over."""

REST: Final = "What else there is"
"""Heading of figures that no question names."""


def by_question(names: Iterable[str]) -> dict[str, list[str]]:
    """The given figures under their questions; those without any are left out, but for `METHODS_COMPARED`."""
    left = list(names)
    groups = {question: [name for name in own if name in left] for question, own in QUESTIONS.items()}
    named = {name for own in QUESTIONS.values() for name in own}
    groups[REST] = [name for name in left if name not in named]
    return {question: own for question, own in groups.items() if own or question == METHODS_COMPARED}
