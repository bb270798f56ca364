"""The method ``evolution``: a population of sets, judged by training fresh classifiers with each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ldnn_core.algorithms import Algorithm, Genetic, SepCmaEs
from ldnn_core.population import PopulationLosses, evaluate_population
from search.config import EvolutionConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting
from search.shards import Arrays, Shards, joined


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


def evaluate_candidates(setting: Setting, generation: int, candidates: Tensor) -> PopulationLosses:
    """How candidates (Q, K, P) of a generation do; the others of the generation make no difference to them."""
    config = setting.config.evolution
    assert config is not None  # a trial of this method has it
    parameters, batches = setting.classifiers(generation, config.classifiers)
    return evaluate_population(
        setting.problem,
        setting.spec,
        candidates.to(setting.device),
        parameters,
        batches,
        setting.config.inner.loss_window,
    )


def evaluate_shard(setting: Setting, generation: int, shard: Arrays) -> Arrays:
    """The body of a shard: ``candidates`` (Q, K, P) → their ``outer_loss`` and ``final_loss`` (Q,), ``inner_steps``."""
    losses = evaluate_candidates(setting, generation, torch.tensor(shard["candidates"]))
    return {
        "outer_loss": losses.outer_loss.cpu().numpy(),
        "final_loss": losses.final_loss.cpu().numpy(),
        "inner_steps": np.array(losses.inner_steps),
    }


def search_by_evolution(setting: Setting, config: EvolutionConfig, recorder: Recorder, shards: Shards) -> Tensor:
    """Run all generations and return the incumbent of the last one, (K, P).

    Raises:
        Diverged: every candidate of a generation diverged.
    """
    algorithm = make_algorithm(setting, config)
    incumbent = torch.empty(0)
    for generation in range(config.generations):
        candidates = algorithm.ask()
        pieces = [{"candidates": part.numpy()} for part in candidates.split(config.shard)]
        found = shards.map(evaluate_shard, setting, generation, pieces)
        recorder.spend(sum(int(part["inner_steps"]) for part in found))
        outer_losses = torch.from_numpy(joined(found, "outer_loss"))
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
            inner_final_loss=float(joined(found, "final_loss")[best]),
            step_size=float((incumbent - previous).norm()) if len(previous) else None,
            population_best=float(finite.min()),
            population_mean=float(finite.mean()),
            diversity=float((candidates - candidates.mean(dim=0)).square().mean().sqrt()),
        )
    return incumbent
