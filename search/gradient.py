"""The method ``gradient``: meta-learning by the gradient through the inner loop."""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.estimators import ESTIMATORS, Estimator, Truncated
from ldnn_core.outer import OuterSGD
from ldnn_core.subnetwork import initial_genomes
from search.config import GradientConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting


def make_estimator(config: GradientConfig) -> Estimator:
    """The estimator that the configuration names."""
    if config.estimator == "truncated":
        return Truncated(config.truncation)
    return ESTIMATORS[config.estimator]()


def search_by_gradient(setting: Setting, config: GradientConfig, recorder: Recorder) -> Tensor:
    """Run the outer loop and return the set it ends with, (K, P).

    Raises:
        Diverged: an outer loss or gradient is not finite.
    """
    estimator = make_estimator(config)
    outer = OuterSGD(config.outer_lr, config.momentum, config.clamp)
    genomes = initial_genomes(setting.spec, setting.config.seed).to(setting.device)
    momentum = outer.start(genomes)
    if start := recorder.begin():
        genomes, momentum = (start[name].to(setting.device) for name in ("genomes", "momentum"))
    for step in range(recorder.next_step, config.outer_steps):
        parameters, batches = setting.classifiers(step, config.classifiers)
        known = recorder.inner_steps_total
        result = estimator.estimate(
            setting.problem, parameters, batches, setting.mixed(genomes[0]), setting.config.inner.loss_window
        )
        recorder.spend(result.inner_steps)
        gradient_norm = float(result.gradient.norm())
        if not torch.isfinite(torch.tensor([result.outer_loss, gradient_norm])).all():
            raise Diverged(
                f"outer step {step}: outer loss {result.outer_loss}, gradient norm {gradient_norm}; "
                "a smaller inner.lr or gradient.outer_lr may help"
            )
        updated, momentum = outer.update(genomes, momentum, result.gradient)
        recorder.step(
            step,
            genomes[0],
            inner_steps_total=known,
            outer_loss=result.outer_loss,
            inner_final_loss=float(result.losses[-1].mean()),
            gradient_norm=gradient_norm,
            step_size=float((updated - genomes).norm()),
        )
        genomes = updated
        recorder.rung(step, {"genomes": genomes, "momentum": momentum})
    recorder.step(config.outer_steps, genomes[0], inner_steps_total=recorder.inner_steps_total)
    return genomes[0]
