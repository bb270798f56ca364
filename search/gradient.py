"""The method ``gradient``: meta-learning by the gradient through the inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldnn_core.estimators import ESTIMATORS, Carry, Es, Estimator, Pes, Truncated
from ldnn_core.outer import OuterSGD
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import initial_genomes
from ldnn_core.training import Batches, InnerProblem
from search.config import GradientConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting


def make_estimator(config: GradientConfig) -> Estimator:
    """The estimator that the configuration names."""
    if config.estimator == "truncated":
        return Truncated(config.truncation, config.carried)
    if config.estimator == "es":
        return Es(config.perturbation, config.pairs)
    if config.estimator == "pes":
        return Pes(config.truncation, config.perturbation, config.pairs)
    return ESTIMATORS[config.estimator]()


@dataclass(frozen=True)
class InnerLoop:
    """The training of classifiers of one size that an outer step goes on with, or begins.

    Attributes:
        problem: its size.
        parameters: the classifiers it began with.
        batches: of the whole of it.
        carry: where it stands; None at its beginning.
    """

    problem: InnerProblem
    parameters: Tensor
    batches: Batches
    carry: Carry | None = None


@dataclass(frozen=True)
class OuterStep:
    """What one outer step found out at all sizes together.

    Attributes:
        gradient: of the objective, (1, K, P).
        outer_loss: the objective.
        final_loss: training loss at the last inner step, mean over networks and sizes.
        inner_steps: inner steps spent.
        unfinished: the inner loops that the next outer step goes on with; none when they are over.
    """

    gradient: Tensor
    outer_loss: float
    final_loss: float
    inner_steps: int
    unfinished: tuple[InnerLoop, ...] = ()


def outer_gradient(
    setting: Setting,
    config: GradientConfig,
    estimator: Estimator,
    step: int,
    genomes: Tensor,
    loops: Sequence[InnerLoop] = (),
) -> OuterStep:
    """The gradient of the objective at the genomes (1, K, P), from classifiers of every size.

    They are fresh ones, unless there are inner loops to go on with.  All sizes are perturbed alike where an estimator
    draws.

    By the chain rule the gradients of the sizes are added up, each with the derivative of the objective by its loss.
    """
    window = setting.config.inner.loss_window
    seed = derive_seed(setting.config.seed, "outer-gradient", step)
    if not loops:
        fresh = (setting.classifiers(problem, step, config.classifiers) for problem in setting.problems)
        loops = [InnerLoop(problem, *begun) for problem, begun in zip(setting.problems, fresh, strict=True)]
    results, losses, unfinished, inner_steps = [], [], [], 0
    for loop in loops:
        problem, parameters, batches = loop.problem, loop.parameters, loop.batches
        mixed = setting.mixed(genomes[0], problem.network.hidden)
        result = estimator.estimate(problem, parameters, batches, mixed, window, seed=seed, carry=loop.carry)
        if result.carry is not None:
            unfinished.append(replace(loop, carry=result.carry))
        baseline, extra = setting.baseline(problem, parameters, batches)
        results.append(result)
        losses.append(result.outer_loss - baseline)
        inner_steps += result.inner_steps + extra
    combined = torch.tensor(losses, dtype=torch.float64)
    weights = setting.objective.weights(combined).tolist()
    with torch.enable_grad():
        leaf = genomes.detach().double().requires_grad_()
        penalty = setting.objective.penalty(setting.spec, leaf).sum()
        gradient = torch.autograd.grad(penalty, leaf)[0] if penalty.requires_grad else torch.zeros_like(leaf)
    penalty = penalty.detach()
    for weight, result in zip(weights, results, strict=True):
        gradient = gradient + weight * result.gradient
    return OuterStep(
        gradient=gradient.to(genomes.dtype),
        outer_loss=float(setting.objective.combine(combined) + penalty),
        final_loss=float(torch.stack([result.losses[-1].mean() for result in results]).mean()),
        inner_steps=inner_steps,
        unfinished=tuple(unfinished),
    )


def search_by_gradient(setting: Setting, config: GradientConfig, recorder: Recorder) -> Tensor:
    """Run the outer loop and return the set it ends with, (K, P).

    Raises:
        Diverged: an outer loss or gradient is not finite.
    """
    estimator = make_estimator(config)
    outer = OuterSGD(config.outer_lr, config.momentum, config.clamp)
    genomes = initial_genomes(setting.spec, setting.config.seed).to(setting.device)
    momentum = outer.start(genomes)
    loops: tuple[InnerLoop, ...] = ()
    if start := recorder.begin():
        genomes, momentum = (start[name].to(setting.device) for name in ("genomes", "momentum"))
    for step in range(recorder.next_step, config.outer_steps):
        known = recorder.inner_steps_total
        result = outer_gradient(setting, config, estimator, step, genomes, loops)
        loops = result.unfinished
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
            inner_final_loss=result.final_loss,
            gradient_norm=gradient_norm,
            step_size=float((updated - genomes).norm()),
        )
        genomes = updated
        recorder.rung(step, {"genomes": genomes, "momentum": momentum})
    recorder.step(config.outer_steps, genomes[0], inner_steps_total=recorder.inner_steps_total)
    return genomes[0]
