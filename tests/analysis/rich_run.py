"""A run folder in which every figure has its data: all arms and controls, several bases, depths and tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search.schema import CONTROLS, USUAL_TRIAL
from tests.analysis.conftest import RunFolder

USUAL = ("relu", "silu", "gelu", "tanh", "sin", "elu", "hat", "sigmoid")
SIZES = ((20, 1), (50, 1), (100, 1), (200, 1), (50, 2), (50, 3))
SPACE = {
    "inner_lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "width": {"low": 20, "high": 120, "step": 10},
    "base": {"choices": ["elu", "sin", "tanh"]},
}
CONFIG = {
    "name": "rich",
    "description": "made-up rows for every figure",
    "seed": 7,
    "search": {"space": SPACE, "objectives": ["score", "num_params", "flatness"]},
}

OWN = {"mixed": 0.6, "pure-0": 0.55, "pure-1": 0.56, "pure-2": 0.57}
OWN |= {name: 0.5 + 0.01 * place for place, name in enumerate(CONTROLS)}
ARMS = {"gradient-0001": OWN, USUAL_TRIAL: {name: 0.44 + 0.015 * place for place, name in enumerate(USUAL)}}
FEW_ARMS = {"gradient-0001": {"mixed": 0.6}, USUAL_TRIAL: {"relu": 0.48}}
"""Trial → arm → its mean accuracy at width 20; the set of trial 1 is the best of its method."""


def rich_run(path: Path, arms: Mapping[str, Mapping[str, float]] = ARMS, *, seeds: int = 10) -> RunFolder:
    """Twenty trials of each method, and networks of the given arms at every size; with K = 3."""
    folder = RunFolder(path, config=CONFIG)
    rng = np.random.default_rng(11)
    for method in ("gradient", "evolution"):
        trials, curves = [], []
        for number in range(20):
            trial_id, base, width = (
                f"{method}-{number:04d}",
                ("elu", "sin", "tanh")[number % 3],
                20 + 10 * (number % 10),
            )
            lr = float(10 ** rng.uniform(-3, -1))
            score = 0.7 if number == 1 else 0.6 - 0.04 * (np.log10(lr) + 2) ** 2 + rng.normal(0, 0.004)
            params = json.dumps({"inner_lr": lr, "width": width, "base": base})
            cost = {"num_params": 51 * width, "flatness": float(rng.lognormal(-4, 0.5))}
            identity = {"trial_id": trial_id, "method": method, "base": base}
            trials.append(identity | {"number": number, "status": "ok", "score": score, "params": params} | cost)
            curves += [identity | row for row in _curves(number, base)]
        folder.write("trials", trials)
        folder.write("activations", curves)
        folder.steps(f"{method}-0001", [0.4, 0.45, 0.5, 0.53])
    for trial_id, own in arms.items():
        networks = [row for arm, mean in own.items() for row in _networks(trial_id, arm, mean, seeds, rng)]
        folder.write("evaluations", networks)
        folder.write("evaluations", [_with_snapshots(row, rng) for row in networks if row["task"] == "mnist1d"])
        folder.write("spectra", [row for place, arm in enumerate(own) for row in _densities(trial_id, arm, place)])
        folder.write("spectral_bias", [_fit(trial_id, arm, place) for place, arm in enumerate(own)])
        starts = [row for place, arm in enumerate(own) for row in _starts(trial_id, arm, place, seeds, rng)]
        folder.write("initial_variance", starts)
    return folder


def _curves(number: int, base: str) -> Iterator[dict[str, Any]]:
    """An even, an odd and a mixed type, as far from each other as the bases are."""
    x = np.linspace(-10, 10, 100)
    tilt = {"elu": 0.3, "sin": 0.0, "tanh": -0.2}[base]
    for step in (0, 1, 3):
        for k, shape in enumerate((np.cos(x), np.sin(x), np.tanh(x) + 0.3 * np.cos(2 * x))):
            curve = step / 3 * shape + tilt * x * step / 3
            ends = {"x_min": -10.0, "x_max": 10.0, "curve": list(curve), "final": step == 3}
            if step == 3 or number == 1:
                yield {"step": step, "type_index": k, "num_types": 3} | ends


def _identity(trial_id: str, arm: str, width: int, depth: int) -> dict[str, Any]:
    usual = trial_id == USUAL_TRIAL
    own = {"method": None if usual else trial_id.rpartition("-")[0], "architecture": "mlp", "mixing": "within_layer"}
    return own | {"trial_id": trial_id, "arm": arm, "width": width, "depth": depth, "lr_protocol": "shared", "lr": 0.01}


def _networks(trial_id: str, arm: str, mean: float, seeds: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    learned = {} if trial_id == USUAL_TRIAL else {"learned_width": 50, "learned_depth": 1}
    for width, depth, task in (*((*size, "mnist1d") for size in SIZES), (50, 1, "van_der_pol")):
        by_loss = task == "van_der_pol"
        for seed in range(seeds):
            level = mean + 0.02 * np.log2(width / 20) + 0.01 * depth + rng.normal(0, 0.012)
            diverged = by_loss and level < 0.47
            yield _identity(trial_id, arm, width, depth) | learned | {
                "task": task,
                "split": "test",
                "seed": seed,
                "metric": "loss" if by_loss else "accuracy",
                "accuracy": None if by_loss else level,
                "loss": None if diverged else float(np.exp(-12 * level)),
                "diverged": diverged,
                "epoch_accuracies": None if by_loss else [level * (1 - 0.6 ** (epoch + 1)) for epoch in range(15)],
                "participation_ratio_normalized": 0.1 + level / 3 + rng.normal(0, 0.015),
                "hessian_trace": 60 * rng.lognormal(-4 * (level - 0.5), 0.3),
                "near_zero_fraction": 0.85 + 0.1 * level + rng.normal(0, 0.01),
                "weight_norm": 10 + rng.normal(0, 0.4),
                "noise_alignment": min(0.7 + rng.normal(0, 0.05), 1.0),
                "wall_seconds": 0.5,
                "inner_steps": 240,
                "num_params": 51 * width,
            }  # fmt: skip


def _with_snapshots(row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The same network under another regime, with an ensemble of two snapshots."""
    level = row["accuracy"] + 0.01 + rng.normal(0, 0.004)
    ensemble = {"ensemble_accuracy": level + 0.02, "ensemble_weighted_accuracy": level + 0.018}
    errors = {"error_correlation": 0.7 + rng.normal(0, 0.02), "snapshot_distance": 0.05 + rng.normal(0, 0.002)}
    members = {"snapshot_accuracies": [level - 0.02, level]}
    return row | {"regime": "repulsion", "accuracy": level} | ensemble | errors | members


def _densities(trial_id: str, arm: str, place: int) -> Iterator[dict[str, Any]]:
    grid = np.linspace(-2, 12, 300)
    bells = {0.0: 0.95, 1.0: 0.03, 4 + 0.4 * place: 0.02}
    density = sum(share * np.exp(-(((grid - at) / 0.15) ** 2) / 2) for at, share in bells.items())
    density = density / (0.15 * np.sqrt(2 * np.pi))
    for seed in range(2):
        curve = {"eigenvalues": list(grid), "density": list(density), "smoothing": 0.15, "num_params": 2550}
        yield _identity(trial_id, arm, 50, 1) | curve | {"seed": seed}


def _fit(trial_id: str, arm: str, place: int) -> dict[str, Any]:
    frequencies = [1, 2, 3, 5, 8]
    steps = [int(40 * frequency ** (1 + 0.1 * place)) for frequency in frequencies]
    identity = {name: value for name, value in _identity(trial_id, arm, 50, 1).items() if name not in _NO_COLUMNS}
    fitted = [count if count < 900 else None for count in steps]
    return identity | {"frequencies": frequencies, "steps_to_fit": fitted, "inner_steps": 900, "seed": 0}


def _starts(trial_id: str, arm: str, place: int, seeds: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Every arm multiplies the variance by a factor of its own."""
    identity = _identity(trial_id, arm, 100, 1)
    for name in ("lr_protocol", "lr"):
        del identity[name]
    for depth in (1, 4):
        for seed in range(seeds):
            signal = (0.3 + 0.12 * place) ** np.arange(depth) * rng.lognormal(0, 0.2, depth)
            both = {"variance_in": list(signal), "variance_out": list(0.4 * signal)}
            yield identity | both | {"depth": depth, "seed": seed, "batch_size": 100}


_NO_COLUMNS = {"architecture", "mixing", "lr_protocol"}
"""What the table ``spectral_bias`` does not have."""
