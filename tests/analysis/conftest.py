"""Run folders with made-up rows whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.schema import SCHEMA_VERSION, TABLES, USUAL_TRIAL

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
USUAL = {"relu": 0.48, "silu": 0.47, "tanh": 0.44, "sin": 0.50}


class RunFolder:
    """Writes a run folder; every method adds a part to one table and fills the columns that it is not told."""

    def __init__(self, path: Path, run_id: str = "made-up-0123", **info: Any) -> None:
        self.path = path
        self.run_id = run_id
        self.config_of_trials = {"ldnn": {"width": 50}}
        path.mkdir(parents=True)
        config = {
            "name": path.name,
            "description": "made-up rows",
            "seed": 7,
            "method": "both",
            "task": {"name": "mnist1d", "samples": 5000},
            "ldnn": {"num_types": 2, "base": "sin", "width": 50, "depth": 1},
        }
        known = {
            "name": path.name,
            "run_id": run_id,
            "created_at": START.isoformat(),
            "config": config,
            "config_hash": "0123456789abcdef",
            "code_version": "0.1.0+abc1234",
            "versions": {"python": "3.11.0", "torch": "2.13.0"},
        }
        (path / "run.json").write_text(json.dumps(known | info), encoding="utf-8")

    def write(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Publish rows as one more part of a table."""
        folder = self.path / table
        folder.mkdir(exist_ok=True)
        common = {
            "run_id": self.run_id,
            "attempt": 0,
            "schema_version": SCHEMA_VERSION,
            "created_at": START,
            "task": "mnist1d",
        }
        filled = [common | dict(row) for row in rows]
        part = folder / f"part-{len(list(folder.iterdir())):05d}.parquet"
        pq.write_table(pa.Table.from_pylist(filled, schema=TABLES[table]), part, write_page_checksum=True)

    def trial(self, trial_id: str, **values: Any) -> None:
        """Add one trial attempt, status ok unless told otherwise."""
        method = trial_id.rsplit("-", 1)[0]
        row = {
            "trial_id": trial_id,
            "method": method,
            "estimator": "unrolled" if method == "gradient" else None,
            "algorithm": "genetic" if method == "evolution" else None,
            "number": int(trial_id.rsplit("-", 1)[1]),
            "status": "ok",
            "score": 0.55,
            "score_sem": 0.004,
            "num_types": 2,
            "base": "sin",
            "width": 50,
            "depth": 1,
            "inner_lr": 0.01,
            "inner_steps": 100,
            "outer_steps": 12,
            "inner_steps_total": 1200,
            "wall_seconds": 61.5,
            "params": json.dumps({"inner_lr": 0.01}),
            "config": json.dumps(self.config_of_trials),
        }
        self.write("trials", [row | values])

    def steps(self, trial_id: str, val_accuracy: Iterable[float | None], **columns: Any) -> None:
        """Add outer steps; ``columns`` hold a list with one entry per step, or one value for all."""
        accuracies = list(val_accuracy)
        defaults: dict[str, Any] = {
            "outer_loss": [2.3 - 0.1 * i for i in range(len(accuracies))],
            "inner_steps_total": [100 * (i + 1) for i in range(len(accuracies))],
            "wall_seconds": [2.0 * (i + 1) for i in range(len(accuracies))],
        }
        each = defaults | columns
        self.write(
            "steps",
            [
                {"trial_id": trial_id, "method": trial_id.rsplit("-", 1)[0], "step": i, "val_accuracy": accuracy}
                | {name: value[i] if isinstance(value, list) else value for name, value in each.items()}
                for i, accuracy in enumerate(accuracies)
            ],
        )

    def activations(self, trial_id: str, steps: Iterable[int], base: str = "sin", num_types: int = 2) -> None:
        """Add curves that grow out of the base function from step to step."""
        x = np.linspace(-10, 10, 100)
        steps = list(steps)
        self.write(
            "activations",
            [
                {
                    "trial_id": trial_id,
                    "method": trial_id.rsplit("-", 1)[0],
                    "num_types": num_types,
                    "base": base,
                    "step": step,
                    "final": step == steps[-1],
                    "type_index": k,
                    "genome": [0.0, 1.0],
                    "x_min": -10.0,
                    "x_max": 10.0,
                    "curve": list(np.sin(x) + step / max(steps[-1], 1) * (np.tanh(x) if k else np.cos(x))),
                    "gain": 1.0,
                    "offset": 0.0,
                }
                for step in steps
                for k in range(num_types)
            ],
        )

    def evaluations(
        self,
        trial_id: str,
        accuracies: Mapping[str, Mapping[int, float] | Iterable[float]],
        width: int = 50,
        **values: Any,
    ) -> None:
        """Add trained networks: arm → accuracy of each seed, as a list from seed 0 or as a mapping."""
        usual = trial_id == USUAL_TRIAL
        row = {
            "trial_id": trial_id,
            "method": None if usual else trial_id.rsplit("-", 1)[0],
            "architecture": "mlp",
            "mixing": "within_layer",
            "lr_protocol": "shared",
            "lr": 0.01,
            "split": "test",
            "width": width,
            "depth": 1,
            "learned_width": None if usual else 50,
            "learned_depth": None if usual else 1,
            "diverged": False,
            "wall_seconds": 0.5,
            "inner_steps": 240,
            "device": "cpu",
            "num_params": 51 * width,
        } | values
        self.write(
            "evaluations",
            [
                row | {"arm": arm, "seed": seed, "accuracy": float(accuracy)}
                for arm, per_seed in accuracies.items()
                for seed, accuracy in (per_seed.items() if isinstance(per_seed, Mapping) else enumerate(per_seed))
            ],
        )


MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a run folder with no rows; the first argument is its name."""

    def make(folder: str = "made-up", /, **info: Any) -> RunFolder:
        return RunFolder(tmp_path / "runs" / folder, **info)

    return make


def fill(
    folder: RunFolder, *, seeds: int = 20, trials: int = 3, widths: Iterable[int] = (20, 50, 100, 200)
) -> RunFolder:
    """Rows like those of a real search: the mix wins in the middle and loses to sin at the widest."""
    rng = np.random.default_rng(3)
    for method in ("gradient", "evolution"):
        for number in range(trials):
            trial_id = f"{method}-{number:04d}"
            folder.trial(trial_id, score=0.55 + 0.01 * number, wall_seconds=60.0 + number)
            rise = 0.42 + 0.16 * (1 - np.exp(-np.arange(60) / (12 + 4 * number))) + rng.normal(0, 0.006, 60)
            batch = 100 if method == "gradient" else 1600
            folder.steps(
                trial_id,
                [float(value) if i % 5 == 0 or i == 59 else None for i, value in enumerate(rise)],
                outer_loss=list(2.2 - 2 * (rise - 0.4) + rng.normal(0, 0.02, 60)),
                inner_steps_total=[batch * (i + 1) for i in range(60)],
                wall_seconds=[(0.9 if method == "gradient" else 1.4) * (i + 1) for i in range(60)],
            )
            folder.activations(trial_id, np.linspace(0, 59, 12).astype(int).tolist())
    for width in widths:
        step = np.log2(width / 20)
        easy = rng.normal(0, 0.012, seeds)
        means = {arm: mean + 0.03 * step + (0.015 * step if arm == "sin" else 0) for arm, mean in USUAL.items()}
        folder.evaluations(
            USUAL_TRIAL, {arm: mean + easy + rng.normal(0, 0.008, seeds) for arm, mean in means.items()}, width
        )
        for method, bonus in (("gradient", 0.0), ("evolution", -0.01)):
            own = {"mixed": 0.56 + 0.018 * step, "pure-0": 0.47 + 0.04 * step, "pure-1": 0.58 + 0.006 * step}
            folder.evaluations(
                f"{method}-{trials - 1:04d}",
                {arm: mean + bonus + easy + rng.normal(0, 0.008, seeds) for arm, mean in own.items()},
                width,
            )
    return folder


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with rows of both methods in every table and one failed trial; to be read only."""
    folder = fill(RunFolder(tmp_path_factory.mktemp("session") / "runs" / "full"))
    folder.trial("gradient-0007", status="failed", score=None, error_type="RuntimeError", error="no more luck")
    return folder
