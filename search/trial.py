"""A trial: one configuration of one method, run once; plain Python that runs in a debugger without Ray."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ldnn_core.algorithms import State
from search.checkpoint import BETWEEN, Checkpoint
from search.config import TrialConfig, canonical
from search.divergence import Diverged
from search.evolution import search_by_evolution
from search.gradient import search_by_gradient
from search.keeper import Keeper
from search.leg import AtRung, Leg
from search.limits import OutOfTime, is_out_of_memory, require_time
from search.measurement import measured_objectives
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
        checkpoint: where the trial stands, if its leg ended at a rung; the status is pruned then.
    """

    status: Status
    trial: Row
    steps: list[Row]
    activations: list[Row]
    checkpoint: Checkpoint | None = None


def run_trial(
    config: TrialConfig,
    report: Report = silent,
    *,
    device: str = "cpu",
    leg: Leg | None = None,
    shards: Shards | None = None,
    keeper: Keeper | None = None,
    max_seconds: float = 0.0,
) -> TrialRecords:
    """Search one set and score it; whatever goes wrong becomes a status and words, never an exception.

    A trial that is run leg by leg has the same rows, but for times, as one that is run at once.

    Args:
        config: the trial, complete.
        report: told about every outer step.
        device: where networks are trained.
        leg: the part of the trial to run; all of it if None.
        shards: does the pieces of each outer step; None does them in this process.  It changes no number.
        keeper: keeps checkpoints on the way; None keeps none.  It changes no number either.
        max_seconds: what the trial may take, together with what it goes on from; 0 for any time.
    """
    shards = shards or ShardsHere()
    started_at, clock = datetime.now(UTC), time.monotonic()
    leg = leg or Leg()
    if leg.start:
        started_at = datetime.fromisoformat(leg.start.started_at)
        clock -= leg.start.wall_seconds
    recorder: Recorder | None = None
    checkpoint: Checkpoint | None = None
    planned = 0
    num_params: int | None = None
    outcome: dict[str, Any] = {}

    def after_step(step: int, state: State) -> None:
        assert recorder is not None  # it is what calls this
        wall_seconds = time.monotonic() - clock
        require_time(wall_seconds, max_seconds, f"after step {step}")
        if keeper is not None and keeper.is_due():
            place = AtRung(BETWEEN, step, state)
            keeper.keep(recorder.checkpoint(place, wall_seconds=wall_seconds, started_at=started_at.isoformat()))

    try:
        setting = Setting.of(config, device)
        num_params = max(problem.network.num_params for problem in setting.problems)
        if config.gradient is not None:
            planned = config.gradient.outer_steps
            recorder = Recorder(setting, planned, report, leg, after_step)
            found = search_by_gradient(setting, config.gradient, recorder, shards)
        else:
            assert config.evolution is not None  # the configuration has exactly one of the two
            planned = config.evolution.generations
            recorder = Recorder(setting, planned - 1, report, leg, after_step)
            found = search_by_evolution(setting, config.evolution, recorder, shards)
        outcome = measured_objectives(setting, found)
        status = Status.OK
    except AtRung as end:
        assert recorder is not None  # it is what raises this
        status = Status.PRUNED
        outcome = {"rung_threshold": leg.threshold(end.rung)}
        wall_seconds = time.monotonic() - clock
        checkpoint = recorder.checkpoint(end, wall_seconds=wall_seconds, started_at=started_at.isoformat())
    except Diverged as error:
        status, outcome = Status.DIVERGED, _words(error)
    except OutOfTime as error:
        status, outcome = Status.TIMEOUT, _words(error)
    except Exception as error:  # a failed trial is a recorded value, never a lost one
        status, outcome = (Status.OOM if is_out_of_memory(error) else Status.FAILED), _words(error)
    origin = {
        "method": config.method,
        "estimator": config.gradient.estimator if config.gradient else None,
        "algorithm": config.evolution.algorithm if config.evolution else None,
        "task": config.task.title,
        "seed": config.seed,
    }
    steps = recorder.steps if recorder else []
    trial: Row = {
        **origin,
        **outcome,
        "number": config.number,
        "status": str(status),
        "num_params": num_params,
        "num_types": config.ldnn.num_types,
        "base": config.ldnn.base,
        "width": _only(config.widths),
        "depth": _only(config.depths),
        "widths": list(config.widths),
        "depths": list(config.depths),
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
        "rung_accuracies": (recorder.rung_accuracies if recorder else []) if config.rungs else None,
        "config": json.dumps(canonical(config), sort_keys=True),
        "config_hash": config_hash(canonical(config)),
    }
    activations = recorder.activations if recorder else []
    steps, activations = ([origin | row for row in rows] for rows in (steps, activations))
    return TrialRecords(status, trial, steps, activations, checkpoint)


def _words(error: BaseException) -> dict[str, str]:
    return {"error_type": type(error).__name__, "error": str(error)[:2000]}


def _only(values: tuple[int, ...]) -> int | None:
    return values[0] if len(values) == 1 else None
