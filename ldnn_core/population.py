"""Evaluating a population of activation sets: one call trains every candidate's classifiers together.

Shapes: Q candidates, C classifiers per candidate, N = Q · C networks, Θ parameters, K types, P weights.
All candidates see the same initial classifiers, batches and noise (common random numbers), so that their
differences are due to the sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation, TableBank, mixed_functions
from ldnn_core.estimators._base import loss_weights
from ldnn_core.subnetwork import ActivationSpec
from ldnn_core.training import Batches, InnerProblem, train


@dataclass(frozen=True)
class PopulationLosses:
    """How the candidates did.

    Attributes:
        outer_loss: (Q,) mean over the classifiers of the training loss of the last ``window`` inner steps, or of what
            the problem's validation rows say; infinite for a candidate of which a classifier diverged.
        final_loss: (Q,) training loss at the last inner step, averaged over the classifiers.
        inner_steps: inner steps spent, summed over all networks.
    """

    outer_loss: Tensor
    final_loss: Tensor
    inner_steps: int


def evaluate_population(
    problem: InnerProblem,
    spec: ActivationSpec,
    genomes: Tensor,
    parameters: Tensor,
    batches: Batches,
    window: int,
) -> PopulationLosses:
    """Train C classifiers with each of Q candidate sets.

    Args:
        problem: network, optimiser, learning rate, and what the outer loss is measured on.
        spec: what the sets share.
        genomes: the candidates, (Q, K, P).
        parameters: the initial classifiers, (C, Θ), the same for every candidate.
        batches: rows and noise, with C streams in the order of the classifiers.
        window: how many of the last inner losses count.

    Raises:
        ValueError: genomes of the wrong shape or not finite, or not one stream per classifier.
    """
    candidates, classifiers = len(genomes), len(parameters)
    candidate = torch.arange(candidates, device=parameters.device).repeat_interleave(classifiers)
    network = problem.network
    functions = mixed_functions(
        network.channels, spec.num_types, candidate, blocks=network.blocks, mixing=problem.mixing
    )
    activation = BankActivation(TableBank(spec, genomes), functions)
    return evaluate_activation(problem, activation, parameters, batches, window, candidates=candidates)


def evaluate_activation(
    problem: InnerProblem,
    activation: Activation,
    parameters: Tensor,
    batches: Batches,
    window: int,
    *,
    candidates: int = 1,
) -> PopulationLosses:
    """The same for any activation of Q · C networks, candidate after candidate, e.g. a usual one.

    Args:
        problem: as for `evaluate_population`, like the rest.
        activation: of all networks.
        parameters: the initial classifiers, (C, Θ).
        batches: with C streams.
        window: how many of the last inner losses count.
        candidates: Q.

    Raises:
        ValueError: not one stream per classifier.
    """
    classifiers = len(parameters)
    if batches.rows.shape[1] != classifiers:
        raise ValueError(
            f"one stream of batches per classifier is needed, but got {batches.rows.shape[1]} for {classifiers}"
        )
    everyone = parameters.repeat(candidates, 1)
    trained = train(problem.repeated(candidates), everyone, batches.repeated(candidates), activation)
    if problem.validation is None:
        weights = trained.losses.new_tensor(loss_weights(len(batches), 1, window))
        outer = (trained.losses * weights.unsqueeze(1)).sum(dim=0)
    else:
        outer = problem.validation_loss(trained.parameters, activation)
    diverged = (trained.diverged | ~torch.isfinite(outer)).view(candidates, classifiers).any(dim=1)
    return PopulationLosses(
        outer_loss=outer.view(candidates, classifiers).mean(dim=1).masked_fill(diverged, float("inf")),
        final_loss=trained.losses[-1].view(candidates, classifiers).mean(dim=1),
        inner_steps=len(batches) * candidates * classifiers,
    )
