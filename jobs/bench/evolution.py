"""A generation of the search loop against a plain loop of trainings (P6), and how much of it is not the engine (P6b).

The loop is that of a trial: ask, cut into shards, make classifiers and batches, lower, train, tell, record.  A
generation's seconds are the differences of ``wall_seconds`` between its rows, which leave the probes out; the first
generation, in which kernels are compiled and caches filled, is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

from jobs.bench._base import REPEATS, Conditions, Result, Size, agree, wait_for
from jobs.bench.references import train_candidate
from ldnn_core import population
from ldnn_core.mlp import MlpSpec
from search.config import RunConfig, trial_config
from search.config_tables import EvolutionConfig
from search.evolution import evaluate_candidates, make_algorithm, search_by_evolution
from search.recorder import Recorder
from search.setting import Setting
from search.shards import ShardsHere

LOSS_TOLERANCE = 1e-3
"""Largest relative error of the candidates' outer losses against the plain loop, float32."""

GROWTH_POPULATION = (8, 32, 128, 256)


def measure_evolution(conditions: Conditions) -> list[Result]:
    """P6 at a population of 32, P6b at 256, and the growth over the population."""
    device, quick = conditions.device, conditions.quick
    sizes = (2, 4) if quick else GROWTH_POPULATION
    steps, width, few = (5, 10, 2) if quick else (100, 100, 4)
    check = check_candidates(bench_setting(device, few, steps=steps, width=width))
    settings = [bench_setting(device, size, steps=steps, width=width) for size in sizes]
    one_by_one = bench_setting(device, few, steps=steps, width=width)
    ours: list[Size] = []
    plain = []
    for _ in range(1 if quick else REPEATS):  # alternately, so that drift of the machine hits both
        ours.append(timed_generations(settings[1]))
        plain.append(_plain_seconds(one_by_one))
    best = min(ours, key=lambda size: float(size["seconds"]))
    seconds = min(plain)
    reference = _size("nn.Module, exact, one by one", one_by_one, seconds)
    grown = [best if size == 1 else timed_generations(setting) for size, setting in enumerate(settings)]
    speed = f"candidates per second: a generation of {sizes[1]} in the search loop ÷ plain loop of nn.Module trainings"
    ratio = (seconds / few) / float(best["seconds_per_candidate"])
    outside = f"share of a generation of {sizes[-1]} that is neither training nor lowering"
    share = float(grown[-1]["outside"])
    return [
        Result("P6", speed, ratio, 10, "ratio", (reference, *grown), conditions, at_least=True, check=check),
        Result("P6b", outside, share, 0.03, "ratio", tuple(grown), conditions),
    ]


def check_candidates(setting: Setting, tolerance: float = LOSS_TOLERANCE) -> dict[str, float]:
    """Relative error of the outer losses of the first generation against the plain loop.

    Raises:
        DisagreementError: it is above the tolerance.
    """
    candidates = make_algorithm(setting, _config(setting)).ask()
    ours = evaluate_candidates(setting, 0, candidates).outer_loss
    plain = torch.stack([losses.mean() for losses in _train_all(setting, candidates)])
    return {"outer_loss": agree("outer losses of candidates", ours, plain, tolerance)}


def bench_setting(device: str, size: int, *, steps: int, width: int, generations: int = 3) -> Setting:
    """An evolutionary trial with the canonical network, set and inner loop, and a population of that size."""
    run = {
        "name": "bench",
        "method": "evolution",
        "ldnn": {"width": width},
        "inner": {"steps": steps, "loss_window": steps},
        "evolution": {"population": size, "generations": generations, "elites": 1, "tournament": 2},
        "search": {"records": 2, "probe_networks": 1},
        "evaluation": {"widths": [width]},
    }
    return Setting.of(trial_config(RunConfig.model_validate(run), "evolution", 0, {}), device)


def timed_generations(setting: Setting) -> Size:
    """The mean seconds of a generation after the first, and the shares of what they are spent on."""
    config = _config(setting)
    marks = []
    device = setting.device.type
    with _clock("train", device) as training, _clock("TableBank", device) as lowering:
        recorder = Recorder(setting, config.generations - 1, lambda *_: marks.append((sum(training), sum(lowering))))
        search_by_evolution(setting, config, recorder, ShardsHere())
    assert training  # else the figure would speak of something else
    whole = recorder.steps[-1]["wall_seconds"] - recorder.steps[0]["wall_seconds"]
    train, lower = (last - first for last, first in zip(marks[-1], marks[0], strict=True))
    shares = {"training": train / whole, "lowering": lower / whole, "outside": 1 - (train + lower) / whole}
    return _size("ours", setting, whole / (config.generations - 1)) | shares


def _plain_seconds(setting: Setting) -> float:
    candidates = make_algorithm(setting, _config(setting)).ask()
    wait_for(setting.device.type)
    started = time.perf_counter()
    _train_all(setting, candidates)
    wait_for(setting.device.type)
    return time.perf_counter() - started


def _train_all(setting: Setting, candidates: torch.Tensor) -> list[torch.Tensor]:
    """The losses (T,) of each candidate's classifier in the first generation, trained one after another."""
    (problem,) = setting.problems
    parameters, batches = setting.classifiers(problem, 0, 1)
    x, y, rows = batches.x, batches.y, batches.rows[:, 0]
    network = problem.network
    assert isinstance(network, MlpSpec)
    return [train_candidate(network, parameters, x, y, rows, genomes.to(x)) for genomes in candidates]


@contextmanager
def _clock(name: str, device: str) -> Iterator[list[float]]:
    """Seconds of each call that the evaluation of a population makes to a function or class of the core."""
    taken: list[float] = []
    original = getattr(population, name)

    def timed(*arguments: object, **options: object) -> object:
        wait_for(device)
        started = time.perf_counter()
        result = original(*arguments, **options)
        wait_for(device)
        taken.append(time.perf_counter() - started)
        return result

    with patch.object(population, name, timed):
        yield taken


def _config(setting: Setting) -> EvolutionConfig:
    assert setting.config.evolution is not None
    return setting.config.evolution


def _size(who: str, setting: Setting, seconds: float) -> Size:
    inner, width, candidates = setting.config.inner, setting.config.ldnn.width, _config(setting).population
    each = seconds / candidates
    sizes = {"T": inner.steps, "population": candidates, "width": width}
    return {"who": who, **sizes, "seconds": seconds, "seconds_per_candidate": each}
