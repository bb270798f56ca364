"""A trial: one configuration of one method, run once; plain Python that runs in a debugger without Ray."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from search.config import TrialConfig, canonical
from search.divergence import Diverged
from search.evolution import search_by_evolution
from search.gradient import search_by_gradient
from search.progress import Report, silent
from search.provenance import config_hash
from search.recorder import Recorder, Row
from search.schema import Status
from search.setting import Setting
from search.shards import Shards, ShardsHere


@dataclass(frozen=True)
class TrialRecords:
    """Everything a trial leaves: rows of three tables, without the columns that say which run and attempt.

    Attributes:
        status: how it ended.
        trial: its row of ``trials``.
        steps: rows of ``steps``.
        activations: rows of ``activations``.
    """

    status: Status
    trial: Row
    steps: list[Row]
    activations: list[Row]


def run_trial(
    config: TrialConfig, report: Report = silent, *, device: str = "cpu", shards: Shards | None = None
) -> TrialRecords:
    """Search one set and score it; whatever goes wrong becomes a status and words, never an exception.

    Args:
        config: the trial, complete.
        report: told about every outer step.
        device: where networks are trained.
        shards: does the pieces of each outer step; None does them in this process.  It changes no number.
    """
    shards = shards or ShardsHere()
    started_at, clock = datetime.now(UTC), time.monotonic()
    recorder: Recorder | None = None
    planned = 0
    outcome: dict[str, Any] = {}
    try:
        setting = Setting.of(config, device)
        if config.gradient is not None:
            planned = config.gradient.outer_steps
            recorder = Recorder(setting, planned, report)
            found = search_by_gradient(setting, config.gradient, recorder, shards)
        else:
            assert config.evolution is not None  # the configuration has exactly one of the two
            planned = config.evolution.generations
            recorder = Recorder(setting, planned - 1, report)
            found = search_by_evolution(setting, config.evolution, recorder, shards)
        score, sem = setting.score(found)
        status = Status.OK
        outcome = {"score": score, "score_sem": sem}
    except Diverged as error:
        status, outcome = Status.DIVERGED, _words(error)
    except MemoryError as error:
        status, outcome = Status.OOM, _words(error)
    except Exception as error:  # a failed trial is a recorded value, never a lost one
        out_of_memory = "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower()
        status, outcome = (Status.OOM if out_of_memory else Status.FAILED), _words(error)
    origin = {
        "method": config.method,
        "estimator": config.gradient.estimator if config.gradient else None,
        "algorithm": config.evolution.algorithm if config.evolution else None,
        "task": config.task.name,
        "seed": config.seed,
    }
    steps = recorder.steps if recorder else []
    trial: Row = {
        **origin,
        **outcome,
        "number": config.number,
        "status": str(status),
        "num_types": config.ldnn.num_types,
        "base": config.ldnn.base,
        "width": config.ldnn.width,
        "depth": config.ldnn.depth,
        "subnet_hidden": list(config.ldnn.subnet_hidden),
        "inner_lr": config.inner.lr,
        "inner_steps": config.inner.steps,
        "outer_lr": config.gradient.outer_lr if config.gradient else None,
        "mutation_scale": config.evolution.mutation_scale if config.evolution else None,
        "outer_steps": min(len(steps), planned),  # the last row of a gradient trial is that of the set it found
        "inner_steps_total": recorder.inner_steps_total if recorder else 0,
        "started_at": started_at,
        "wall_seconds": time.monotonic() - clock,
        "params": json.dumps(config.params, sort_keys=True),
        "config": json.dumps(canonical(config), sort_keys=True),
        "config_hash": config_hash(canonical(config)),
    }
    activations = recorder.activations if recorder else []
    return TrialRecords(status, trial, [origin | row for row in steps], [origin | row for row in activations])


def _words(error: BaseException) -> dict[str, str]:
    return {"error_type": type(error).__name__, "error": str(error)[:2000]}
