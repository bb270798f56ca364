"""What a found set is worth: the score, and the further objectives that a search asks for."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ldnn_core.curvature import measure_curvature
from ldnn_core.evaluation import TrainedGroup
from ldnn_core.randomness import generator
from search.divergence import Diverged
from search.setting import Setting

FLATNESS_PROBES: Final = 16
"""Random vectors in the estimate of a Hessian's trace; the networks of a score average its error further."""


def measured_objectives(setting: Setting, genomes: Tensor) -> dict[str, float | None]:
    """Columns of ``trials`` about the set (K, P) that a trial has found.

    The score and its standard error always; of the others those that the trial's configuration names:

    * ``cross_size_drop``: the score minus the lowest of the mean validation accuracies at the widths
      ``objective_widths``, at the trial's depths, and at the trial's own sizes, each of as many networks, trained and
      judged like those of the score.  It is 0 when the set is nowhere worse than where it was learned.
    * ``flatness``: trace of the Hessian of the training loss, on all training rows and without noise, divided by the
      number of parameters; the mean over those networks of the score that did not diverge.

    Raises:
        Diverged: all networks of the score did, at every size; the accuracy of a guess would be no score of the set.
    """
    config = setting.config
    traces: list[float] = []
    sound = 0

    def observe(group: TrainedGroup) -> None:
        nonlocal sound
        sound += int((~group.diverged).sum())
        if "flatness" in config.objectives:
            traces.extend(_traces_per_parameter(group, config.run_seed))

    own = setting.score_accuracies(genomes, config.sizes, observe=observe)
    if not sound:
        raise Diverged(
            f"all {own.numel()} networks of the score diverged, though the search did not; a smaller evaluation.lr, or "
            "an outer loop that moves the set less, may help"
        )
    score, sem = setting.scored(own)
    found: dict[str, float | None] = {"score": score, "score_sem": sem}
    if "cross_size_drop" in config.objectives:
        sizes = [(width, depth) for depth in config.depths for width in config.objective_widths]
        others = setting.score_accuracies(genomes, [size for size in sizes if size not in config.sizes])
        means = torch.cat([own.mean(dim=1), others.mean(dim=1) if len(others) else own.new_empty(0)])
        found["cross_size_drop"] = max(0.0, score - float(means.min()))
    if "flatness" in config.objectives:
        found["flatness"] = sum(traces) / len(traces) if traces else None
    return found


def _traces_per_parameter(group: TrainedGroup, seed: int) -> list[float]:
    sound = ~group.diverged
    if not bool(sound.any()):
        return []
    network, rows = group.network, group.rows
    # All networks share the learned functions of their units, so any part of them can be measured alone.
    parameters = group.parameters[sound]
    activation = group.activation.of_networks(slice(0, len(group.parameters)))
    source = generator(seed, "flatness", *network.channels)
    counts = {"probes": FLATNESS_PROBES, "lanczos_steps": 1, "eigenvalues": 1}
    trace = measure_curvature(network, parameters, rows.x, rows.y, activation, generator=source, **counts).trace
    finite = trace[torch.isfinite(trace)] / network.num_params
    return [float(one) for one in finite]
