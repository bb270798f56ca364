"""Runs small enough for tests, and what of their rows must be equal when they are done again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from search.config import RunConfig, TrialConfig, stored_config, trial_config
from search.launch import Account, drive
from search.plan import Outcome, Plan, Unit
from search.run_folder import RunFolder, create
from search.schema import UNIQUE_KEYS

TINY: dict[str, Any] = {
    "name": "tiny",
    "method": "both",
    "task": {"samples": 1000},
    "ldnn": {"num_types": 2, "base": "tanh", "width": 10, "subnet_hidden": [4]},
    "inner": {"steps": 5, "batch_size": 50},
    "gradient": {"outer_steps": 3},
    "evolution": {"generations": 3, "population": 4},
    "search": {
        "trials": 2,
        "startup_trials": 1,
        "wave": 1,
        "records": 2,
        "probe_networks": 2,
        "score_networks": 3,
        "space": {
            "inner_lr": {"low": 3e-3, "high": 3e-2, "log": True},
            "mutation_scale": {"low": 0.03, "high": 0.3},
        },
    },
    "evaluation": {"widths": [6, 10], "seeds": 2, "usual": ["relu", "sin"], "epochs": 1, "batch_size": 100},
    "resources": {"workers": 0},
}

WHEN_AND_WHERE = {
    "run_id",
    "attempt",
    "created_at",
    "started_at",
    "wall_seconds",
    "threads",
    "code_version",
    "code_dirty",
}
"""Columns that may differ between two runs of the same configuration."""


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with the entries of another laid over it."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        both_tables = isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key != "space"
        result[key] = merged(result[key], value) if both_tables else value
    return result


def tiny_run(**changes: Any) -> RunConfig:
    """The configuration of a run that takes seconds; tables are laid over `TINY`."""
    return RunConfig.model_validate(merged(TINY, changes))


def tiny_trial(method: str, number: int = 0, **changes: Any) -> TrialConfig:
    """A trial of such a run, with nothing sampled."""
    return trial_config(tiny_run(**changes), method, number, {})


def new_run(parent: Path, **changes: Any) -> RunFolder:
    """The folder of such a run."""
    config = tiny_run(**changes)
    return create(parent, config.name, config.model_dump(mode="json"), seed=config.seed)


class Listener:
    """What is told about a drive."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.plan: Plan | None = None
        self.expected = 0
        """Units that the drive said it would do, before it began."""

    def __call__(self, plan: Plan, account: Account) -> Any:
        self.plan, self.expected = plan, plan.total
        return self.watch

    def watch(self, event: str, unit: Unit, outcome: Outcome | None) -> None:
        self.events.append((event, unit.key))

    @property
    def finished(self) -> list[str]:
        return [key for event, key in self.events if event == "finished"]


def drive_here(run: RunFolder, **options: Any) -> tuple[Account, Listener]:
    """Drive a run in this process."""
    listener = Listener()
    resources = stored_config(run.info.config, run.path).resources.model_copy(update={"workers": 0})
    return drive(run, resources, listener, **options), listener


def rows(path: Path, table: str) -> pd.DataFrame:
    """All rows of a table in the order of their keys, without what may differ between equal runs."""
    return _comparable(pd.read_parquet(path / table), table)


def rows_of(run: RunFolder, table: str) -> pd.DataFrame:
    """The same through the store, wherever the run lies."""
    return _comparable(run.store.read(table).to_pandas(), table)


def _comparable(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    keys = [key for key in UNIQUE_KEYS[table] if key != "attempt"]
    frame = frame.sort_values(keys, kind="stable").reset_index(drop=True)
    return frame[[name for name in frame.columns if name not in WHEN_AND_WHERE]]


def assert_same_rows(path: Path, other: Path) -> None:
    """Two run folders hold the same rows with the same numbers, each once."""
    for table in ("trials", "steps", "activations", "evaluations"):
        found, expected = rows(path, table), rows(other, table)
        keys = [key for key in UNIQUE_KEYS[table] if key != "attempt"]
        assert not found.duplicated(keys).any(), table
        pd.testing.assert_frame_equal(found, expected, check_exact=True, obj=table)
