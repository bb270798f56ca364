"""The method ``evolution``: a population of sets, judged by training fresh classifiers with each."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from ldnn_core.algorithms import ALGORITHMS, Algorithm
from ldnn_core.population import PopulationLosses, evaluate_population
from search.config_tables import EvolutionConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting
from search.shards import Arrays, Shards, joined

OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "genetic": ("elites", "tournament", "crossover_rate", "mutation"),
    "openai_es": ("mean_lr", "weight_decay"),
    "snes": (),
    "sep_cma_es": (),
    "cma_es": (),
}
"""Algorithm → fields of its configuration that it alone reads."""


def make_algorithm(setting: Setting, config: EvolutionConfig) -> Algorithm:
    """The algorithm that the configuration names, at its start."""
    fields = ("population", "mutation_scale", "layer_scales", *OPTIONS[config.algorithm])
    options = {field: getattr(config, field) for field in fields}
    return ALGORITHMS[config.algorithm](setting.spec, setting.config.seed, **options)


def evaluate_candidates(setting: Setting, generation: int, candidates: Tensor) -> PopulationLosses:
    """The objective of each candidate (Q, K, P), from fresh classifiers of every size that sets are tried at.

    The others of the generation make no difference to a candidate.
    """
    config = setting.config.evolution
    assert config is not None  # a trial of this method has it
    genomes, window = candidates.to(setting.device), setting.config.inner.loss_window
    losses, finals, inner_steps = [], [], 0
    for problem in setting.problems:
        parameters, batches = setting.classifiers(problem, generation, config.classifiers)
        judged = evaluate_population(problem, setting.spec, genomes, parameters, batches, window)
        baseline, extra = setting.baseline(problem, parameters, batches)
        losses.append(judged.outer_loss - baseline)
        finals.append(judged.final_loss)
        inner_steps += judged.inner_steps + extra
    objective = setting.objective
    outer_loss = objective.combine(torch.stack(losses)) + objective.penalty(setting.spec, genomes)
    return PopulationLosses(outer_loss, torch.stack(finals).mean(dim=0), inner_steps)


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
    if start := recorder.begin():
        algorithm.restore(start)
        incumbent = algorithm.incumbent()
    for generation in range(recorder.next_step, config.generations):
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
        recorder.rung(generation, algorithm.state())
    return incumbent
