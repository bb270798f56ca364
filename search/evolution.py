"""The method ``evolution``: a population of sets, judged by training fresh classifiers with each."""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.algorithms import Algorithm, Genetic, SepCmaEs
from ldnn_core.population import evaluate_population
from search.config import EvolutionConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting


def make_algorithm(setting: Setting, config: EvolutionConfig) -> Algorithm:
    """The algorithm that the configuration names, at its start."""
    seed = setting.config.seed
    if config.algorithm == "genetic":
        return Genetic(
            setting.spec,
            seed,
            population=config.population,
            elites=config.elites,
            tournament=config.tournament,
            mutation_scale=config.mutation_scale,
            crossover_rate=config.crossover_rate,
        )
    return SepCmaEs(setting.spec, seed, population=config.population, mutation_scale=config.mutation_scale)


def search_by_evolution(setting: Setting, config: EvolutionConfig, recorder: Recorder) -> Tensor:
    """Run all generations and return the incumbent of the last one, (K, P).

    Raises:
        Diverged: every candidate of a generation diverged.
    """
    algorithm = make_algorithm(setting, config)
    incumbent = torch.empty(0)
    if start := recorder.begin():
        algorithm.restore(start)
        incumbent = algorithm.incumbent()
    for generation in range(recorder.next_step, config.generations):
        candidates = algorithm.ask()
        parameters, batches = setting.classifiers(generation, config.classifiers)
        losses = evaluate_population(
            setting.problem,
            setting.spec,
            candidates.to(setting.device),
            parameters,
            batches,
            setting.config.inner.loss_window,
        )
        recorder.spend(losses.inner_steps)
        outer_losses = losses.outer_loss.cpu()
        finite = outer_losses[torch.isfinite(outer_losses)]
        if not len(finite):
            raise Diverged(
                f"generation {generation}: all {len(outer_losses)} candidates diverged; "
                "a smaller inner.lr or evolution.mutation_scale may help"
            )
        algorithm.tell(outer_losses)
        previous, incumbent = incumbent, algorithm.incumbent()
        best = int(outer_losses.argmin())
        recorder.step(
            generation,
            incumbent,
            inner_steps_total=recorder.inner_steps_total,
            outer_loss=float(outer_losses[best]),
            inner_final_loss=float(losses.final_loss[best]),
            step_size=float((incumbent - previous).norm()) if len(previous) else None,
            population_best=float(finite.min()),
            population_mean=float(finite.mean()),
            diversity=float((candidates - candidates.mean(dim=0)).square().mean().sqrt()),
        )
        recorder.rung(generation, algorithm.state())
    return incumbent
