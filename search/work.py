"""Doing one unit of a run and publishing what it found: what a worker process is asked to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from search.config import RunConfig, canonical, trial_config
from search.evaluate import judge
from search.plan import PENALTY, Outcome, Unit
from search.progress import ProgressFile
from search.provenance import code_version, config_hash, hostname, library_versions
from search.run_folder import open_run
from search.schema import Status
from search.shards import Shards
from search.store import Store, trial_key
from search.trial import run_trial


def do_unit(unit: Unit, *, run: str, device: str, shards: Shards | None = None) -> Outcome:
    """Do a trial or a batch of evaluations; when it returns, its rows are on disk.

    Args:
        unit: what to do; the payload's ``kind`` is ``trial`` or ``evaluation``.
        run: the run folder.
        device: cpu, cuda or auto.
        shards: does the pieces of a trial's outer steps; None does them in this process.
    """
    folder = open_run(Path(run))
    config = RunConfig.model_validate(folder.info.config)
    place = resolve_device(device)
    common = {"run_id": folder.info.run_id, "attempt": unit.attempt}
    if unit.payload["kind"] == "evaluation":
        rows = judge(config, folder.store, unit.payload, place)
        provenance = _provenance(place) | {"config_hash": config_hash(canonical(config))}
        if rows:
            folder.store.publish("evaluations", unit.key, [row | common | provenance for row in rows])
        return Outcome(Status.OK, PENALTY, f"{len(rows)} networks")
    return _do_trial(unit, config, folder.store, common, place, shards)


def _do_trial(
    unit: Unit, config: RunConfig, store: Store, common: dict[str, Any], place: str, shards: Shards | None
) -> Outcome:
    payload = unit.payload
    # The process of an earlier attempt may have died after its row was on disk, and before it could say so.
    if unit.attempt and (before := _outcome_on_disk(store, unit.key)):
        return before
    trial = trial_config(config, payload["method"], payload["number"], payload["params"])
    progress = ProgressFile(store.root / "logs", unit.key)
    try:
        records = run_trial(trial, progress, device=place, shards=shards)
    finally:
        progress.close()
    common = {**common, "trial_id": unit.key}
    key = trial_key(unit.key, unit.attempt)
    if records.status in (Status.OK, Status.DIVERGED):
        for table, rows in (("steps", records.steps), ("activations", records.activations)):
            if rows:
                store.publish(table, key, [row | common for row in rows])
    # Last, because its row is what makes the trial done.
    store.publish("trials", key, [records.trial | common | _provenance(place)])
    return _outcome(records.trial)


def _outcome(trial: Mapping[str, Any]) -> Outcome:
    score = trial.get("score")
    note = trial.get("error") or f"validation accuracy {100 * (score or 0):.1f} %"
    return Outcome(Status(trial["status"]), PENALTY if score is None else float(score), note)


def _outcome_on_disk(store: Store, trial_id: str) -> Outcome | None:
    """How a finished attempt of the trial ended, if there is one."""
    rows = store.read("trials", columns=["trial_id", "status", "score", "error"]).to_pylist()
    finished = [row for row in rows if row["trial_id"] == trial_id and row["status"] in (Status.OK, Status.DIVERGED)]
    return _outcome(finished[0]) if finished else None


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Let torch use this many threads in this process, as a worker does, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(device: str) -> str:
    """``auto`` becomes cuda where there is one, else cpu.

    Raises:
        ValueError: cuda is asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("resources.device must be cpu or auto on a machine without a CUDA device, but got 'cuda'")
    return device


def _provenance(place: str) -> dict[str, Any]:
    version, dirty = code_version()
    return {
        "code_version": version,
        "code_dirty": dirty,
        "versions": json.dumps(library_versions(), sort_keys=True),
        "hostname": hostname(),
        "device": torch.cuda.get_device_name() if place == "cuda" else place,
        "threads": torch.get_num_threads(),
    }
