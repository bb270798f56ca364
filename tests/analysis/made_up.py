"""Made-up evaluation rows with known answers: every column of the schema, any grid of sizes, any advantage.

    rows = made_up_rows(Shape(widths=(20, 50, 100), seeds=20), advantage=0.03)
    frame = as_frame("evaluations", rows)                     # what `load_run(...).evaluations` would give
    write_run(tmp_path / "made-up", {"evaluations": rows})    # a run folder with one part

Everything follows from the arguments and ``Shape.key``; the same call gives the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.frames import _PANDAS_TYPES
from search.schema import EVALUATIONS, SCHEMA_VERSION, TABLES, USUAL_TRIAL

START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEVEL: Final = 0.55
"""Mean accuracy of the best usual arm; where networks are judged by loss, its mean of minus the logarithm of it."""

Size = tuple[int, int]
"""Width and depth."""
Advantage = float | Mapping[Size, float] | Callable[[int, int], float]
"""Mean of mixed minus mean of the best usual arm: everywhere the same, by size (elsewhere 0), or a function of it."""


@dataclass(frozen=True)
class Shape:
    """What was evaluated.

    Attributes:
        widths: neurons per hidden layer.
        depths: hidden layers.
        tasks: names of tasks; every size is evaluated in each.
        seeds: networks per arm and size, or the seeds themselves.
        learned: width and depth at which the set was learned.
        usual: usual arms; the first has mean `LEVEL`, each further one is lower by ``usual_gap``.
        usual_gap: see there.
        pure_gap: how far both pure types are below the mix.
        controls: control → how far it is below the mix.
        num_types: K; with 1 there are no pure arms.
        common: standard deviation of what networks of one seed share.
        noise: standard deviation of what is each network's own.
        digits: decimals to which accuracies are rounded, as shares of rows are; None leaves them.
        collapsed: size → share of the mix's networks that diverge there (the first seeds).
        metric: accuracy or loss.
        trial_id: name of the set.
        lr_protocol: shared or per_arm_size.
        regime: name of the training regime.
        split: test or val.
        key: of the random numbers.
    """

    widths: Sequence[int] = (20, 50, 100, 200)
    depths: Sequence[int] = (1,)
    tasks: Sequence[str] = ("mnist1d",)
    seeds: int | Sequence[int] = 20
    learned: Size = (50, 1)
    usual: Sequence[str] = ("relu", "silu", "tanh")
    usual_gap: float = 0.01
    pure_gap: float = 0.02
    controls: Mapping[str, float] = field(default_factory=dict)
    num_types: int = 2
    common: float = 0.012
    noise: float = 0.008
    digits: int | None = 3
    collapsed: Mapping[Size, float] = field(default_factory=dict)
    metric: str = "accuracy"
    trial_id: str = "gradient-0000"
    lr_protocol: str = "shared"
    regime: str = "plain"
    split: str = "test"
    key: int = 0


def made_up_rows(shape: Shape | None = None, advantage: Advantage = 0.0) -> list[dict[str, Any]]:
    """One row per network of a set, its controls and the usual arms, at every size of every task."""
    shape = shape or Shape()
    rng = np.random.default_rng([20260301, shape.key])
    return [
        row
        for task in shape.tasks
        for depth in shape.depths
        for width in shape.widths
        for row in _at_size(shape, task, width, depth, _advantage(advantage, width, depth), rng)
    ]


def made_up_evaluations(shape: Shape | None = None, advantage: Advantage = 0.0) -> pd.DataFrame:
    """The same as a typed frame."""
    return as_frame("evaluations", made_up_rows(shape, advantage))


def as_frame(table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as the loader gives them: all columns of the schema, with its types."""
    frame: pd.DataFrame = pa.Table.from_pylist(list(rows), schema=TABLES[table]).to_pandas(
        types_mapper=_PANDAS_TYPES.get
    )
    return frame


def write_run(path: Path, tables: Mapping[str, Iterable[Mapping[str, Any]]], **info: Any) -> Path:
    """A run folder with one part for each table that has rows; ``info`` goes into run.json."""
    path.mkdir(parents=True)
    known = {"name": path.name, "run_id": "made-up-0123", "created_at": START.isoformat(), "config": {}}
    (path / "run.json").write_text(json.dumps(known | info), encoding="utf-8")
    for table, rows in tables.items():
        found = list(rows)
        if found:
            folder = path / table
            folder.mkdir()
            content = pa.Table.from_pylist(found, schema=TABLES[table])
            pq.write_table(content, folder / "part-00000.parquet", write_page_checksum=True)
    return path


def _advantage(advantage: Advantage, width: int, depth: int) -> float:
    if isinstance(advantage, Mapping):
        return float(advantage.get((width, depth), 0.0))
    return float(advantage(width, depth) if callable(advantage) else advantage)


def _at_size(
    shape: Shape, task: str, width: int, depth: int, advantage: float, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    seeds = list(range(shape.seeds)) if isinstance(shape.seeds, int) else list(shape.seeds)
    common = rng.normal(0, shape.common, len(seeds))
    mix = LEVEL + advantage
    own = {"mixed": mix} | {name: mix - behind for name, behind in shape.controls.items()}
    if shape.num_types > 1:
        own |= {f"pure-{k}": mix - shape.pure_gap for k in range(shape.num_types)}
    usual = {arm: LEVEL - place * shape.usual_gap for place, arm in enumerate(shape.usual)}
    for arm, mean in (own | usual).items():
        outcomes = mean + common + rng.normal(0, shape.noise, len(seeds))
        broken = round(shape.collapsed.get((width, depth), 0.0) * len(seeds)) if arm == "mixed" else 0
        for place, (seed, outcome) in enumerate(zip(seeds, outcomes, strict=True)):
            where = {"task": task, "width": width, "depth": depth, "arm": arm, "seed": seed}
            yield _network(shape, where, arm in usual, float(outcome), place < broken, rng)


def _network(
    shape: Shape, where: Mapping[str, Any], usual: bool, outcome: float, diverged: bool, rng: np.random.Generator
) -> dict[str, Any]:
    width, depth = where["width"], where["depth"]
    by_loss = shape.metric == "loss"
    accuracy = 0.1 if diverged else round(outcome, shape.digits) if shape.digits else outcome
    loss = float(np.exp(-outcome)) if by_loss else float(-np.log(np.clip(accuracy, 0.01, 1)))
    trace = float(50 * rng.lognormal(0, 0.2))
    bins = np.exp(-0.5 * (np.linspace(-8, 8, 64) / 1.5) ** 2)
    row: dict[str, Any] = {
        "run_id": "made-up-0123",
        "trial_id": USUAL_TRIAL if usual else shape.trial_id,
        "attempt": 0,
        "schema_version": SCHEMA_VERSION,
        "created_at": START,
        "method": None if usual else shape.trial_id.rsplit("-", 1)[0],
        "estimator": None if usual or not shape.trial_id.startswith("gradient") else "unrolled",
        "algorithm": None if usual or not shape.trial_id.startswith("evolution") else "genetic",
        **where,
        "num_types": 1 if usual else shape.num_types,
        "base": None if usual else "sin",
        "architecture": "mlp",
        "learned_width": None if usual else shape.learned[0],
        "learned_depth": None if usual else shape.learned[1],
        "num_params": 41 * width + (depth - 1) * (width + 1) * width + 10 * (width + 1),
        "mixing": "within_layer",
        "lr": 0.01,
        "lr_protocol": shape.lr_protocol,
        "optimizer": "adam",
        "epochs": 15,
        "batch_size": 200,
        "split": shape.split,
        "metric": shape.metric,
        "accuracy": None if by_loss else accuracy,
        "loss": None if diverged else loss,
        "train_loss": None if diverged else 0.8 * loss,
        "diverged": diverged,
        "best_epoch_accuracy": None if by_loss else min(accuracy + 0.005, 1.0),
        "rollout_error": None if diverged or not by_loss else 3 * loss,
        "epoch_accuracies": None if by_loss else [accuracy * (1 - 0.5 ** (epoch + 1)) for epoch in range(15)],
        "epoch_losses": None if diverged else [loss * (1 + 2 * 0.7**epoch) for epoch in range(15)],
        "participation_ratio": 0.2 * width,
        "participation_ratio_normalized": 0.2,
        "participation_ratio_corrected": 0.22,
        "hessian_trace": trace,
        "hessian_trace_sem": 0.02 * trace,
        "hessian_top_eigenvalue": 0.2 * trace,
        "hessian_eigenvalues": [0.2 * trace, 0.1 * trace, 0.05 * trace],
        "near_zero_fraction": 0.9,
        "near_zero_threshold": 1e-3,
        "weight_norm": 12.0,
        "outside_table": None if usual else 0.0,
        "curvature_method": "batched",
        "curvature_rows": 1000,
        "noise_alignment": 0.7,
        "noise_trace": 2 * trace,
        "regime": shape.regime,
        "snapshot_accuracies": None if by_loss or shape.regime == "plain" else [accuracy - 0.02, accuracy],
        "ensemble_accuracy": None if by_loss or shape.regime == "plain" else accuracy + 0.01,
        "ensemble_weighted_accuracy": None if by_loss or shape.regime == "plain" else accuracy + 0.01,
        "error_correlation": None if by_loss or shape.regime == "plain" else 0.6,
        "snapshot_distance": None if shape.regime == "plain" else 0.05,
        "preactivation_density": list(bins / bins.sum()),
        "wall_seconds": 0.5,
        "inner_steps": 240,
        "batch_of_networks": 100,
        "config_hash": "0123456789abcdef",
        "code_version": "0.1.0+abc1234",
        "code_dirty": False,
        "versions": "{}",
        "hostname": "somewhere",
        "device": "cpu",
        "threads": 1,
    }
    assert list(row.keys() ^ set(EVALUATIONS.names)) == []
    return row
