"""The method ``gradient``: meta-learning by the gradient through the inner loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ldnn_core.estimators import ESTIMATORS, Estimator, OuterGradient, Truncated
from ldnn_core.outer import OuterSGD
from ldnn_core.subnetwork import initial_genomes
from search.config import GradientConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting
from search.shards import Arrays, Shards


def make_estimator(config: GradientConfig) -> Estimator:
    """The estimator that the configuration names."""
    if config.estimator == "truncated":
        return Truncated(config.truncation)
    return ESTIMATORS[config.estimator]()


def estimate_gradient(setting: Setting, outer_step: int, genomes: Tensor, classifiers: range) -> OuterGradient:
    """Outer loss and gradient of a set (K, P), averaged over some of the outer step's fresh classifiers."""
    config = setting.config.gradient
    assert config is not None  # a trial of this method has it
    parameters, batches = setting.classifiers(outer_step, len(classifiers), classifiers.start)
    window = setting.config.inner.loss_window
    return make_estimator(config).estimate(setting.problem, parameters, batches, setting.mixed(genomes), window)


def estimate_shard(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """The body of a shard: ``genomes`` (K, P) and ``classifiers`` (first, count) → sums over those classifiers.

    They are of the ``gradient`` (1, K, P), the ``outer_loss`` and the ``final_loss``, and there are ``inner_steps``.
    All are float64, in which a sum of one shard divided by its count is the mean itself, to the bit.
    """
    first, count = shard["classifiers"].tolist()
    result = estimate_gradient(setting, outer_step, torch.tensor(shard["genomes"]), range(first, first + count))
    return {
        "gradient": count * result.gradient.cpu().double().numpy(),
        "outer_loss": np.array(count * result.outer_loss),
        "final_loss": np.array(count * float(result.losses[-1].mean())),
        "inner_steps": np.array(result.inner_steps),
    }


def search_by_gradient(setting: Setting, config: GradientConfig, recorder: Recorder, shards: Shards) -> Tensor:
    """Run the outer loop and return the set it ends with, (K, P).

    Raises:
        Diverged: an outer loss or gradient is not finite.
    """
    count = config.classifiers
    pieces = [(first, min(config.shard, count - first)) for first in range(0, count, config.shard)]
    outer = OuterSGD(config.outer_lr, config.momentum, config.clamp)
    genomes = initial_genomes(setting.spec, setting.config.seed).to(setting.device)
    momentum = outer.start(genomes)
    for step in range(config.outer_steps):
        known = recorder.inner_steps_total
        own = genomes[0].cpu().numpy()
        asked = [{"genomes": own, "classifiers": np.array(piece)} for piece in pieces]
        found = shards.map(estimate_shard, setting, step, asked)
        recorder.spend(sum(int(part["inner_steps"]) for part in found))
        # Added up in the order of the classifiers, whoever was ready first.
        gradient = torch.from_numpy(sum(part["gradient"] for part in found) / count).to(genomes)
        outer_loss = float(sum(part["outer_loss"] for part in found) / count)
        gradient_norm = float(gradient.norm())
        if not torch.isfinite(torch.tensor([outer_loss, gradient_norm])).all():
            raise Diverged(
                f"outer step {step}: outer loss {outer_loss}, gradient norm {gradient_norm}; "
                "a smaller inner.lr or gradient.outer_lr may help"
            )
        updated, momentum = outer.update(genomes, momentum, gradient)
        recorder.step(
            step,
            genomes[0],
            inner_steps_total=known,
            outer_loss=outer_loss,
            inner_final_loss=float(sum(part["final_loss"] for part in found) / count),
            gradient_norm=gradient_norm,
            step_size=float((updated - genomes).norm()),
        )
        genomes = updated
    recorder.step(config.outer_steps, genomes[0], inner_steps_total=recorder.inner_steps_total)
    return genomes[0]
