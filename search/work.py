"""Doing one unit of a run and publishing what it found: what a worker process is asked to do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import torch

from search import checkpoint
from search.attempts import counted
from search.config import RunConfig, TrialConfig, canonical, stored_config, trial_config
from search.config_tasks import TaskConfig
from search.copies import copy_of
from search.data_checksum import data_checksum, require_same_data
from search.driver_lock import require_driver
from search.evaluate import judge
from search.initial_variance import measure_initial_unit
from search.keeper import Keeper
from search.leg import Leg
from search.limits import memory_limited
from search.location import Location, parse_location
from search.plan import PENALTY, Outcome, Unit
from search.progress import ProgressFile, progress_folder
from search.provenance import code_version, config_hash, hostname, library_versions
from search.run_folder import open_run
from search.schema import FINISHED, OBJECTIVES, Status
from search.setting import load_task
from search.shards import Shards
from search.spectral import measure_unit
from search.store import Store, trial_key
from search.trial import run_trial

_MEASURED: Final = {"spectral_bias": measure_unit, "initial_variance": measure_initial_unit}
"""Kind of a unit and table of its rows → what makes them."""


@dataclass(frozen=True)
class _Place:
    """Where and how a unit is done; it changes no number.

    Attributes:
        device: cpu or cuda.
        shards: does the pieces of a trial's outer steps; None does them in this process.
        driver: token of the drive that asks; None if nobody drives.
        checkpoint_seconds: as in `ResourcesConfig`.
        memory: as ``memory_per_trial`` there.
    """

    device: str
    shards: Shards | None
    driver: str | None
    checkpoint_seconds: float
    memory: int

    def require_driver(self, run: Location) -> None:
        """See `search.driver_lock.require_driver`."""
        if self.driver is not None:
            require_driver(run, self.driver)


def do_unit(
    unit: Unit,
    *,
    run: str,
    device: str,
    shards: Shards | None = None,
    driver: str | None = None,
    checkpoint_seconds: float = 0.0,
    memory: int = 0,
) -> Outcome:
    """Do a trial or a batch of evaluations; when it returns, its rows are on disk.

    Args:
        unit: what to do; the payload's ``kind`` is ``trial``, ``evaluation``, ``spectral_bias`` or
            ``initial_variance``.
        run: the run folder, or its address in an object store.
        device: cpu, cuda or auto.
        shards: does the pieces of a trial's outer steps; None does them in this process.
        driver: token of the drive that asks for it; None asks nobody whether it may publish.
        checkpoint_seconds: how often a trial keeps a checkpoint; 0 for never.
        memory: megabytes that the unit may ask for; 0 for any number.

    Raises:
        LeftBehindError: the driver is gone, and another may be there.
        DataError: the data is not that which the run was made with.
    """
    folder = open_run(parse_location(run))
    config = stored_config(folder.info.config, folder.path)
    place = _Place(resolve_device(device), shards, driver, checkpoint_seconds, memory)
    require_same_data(config.task.name, _checksum(config.task, place.device), folder.info.data_checksum)
    common = {"run_id": folder.info.run_id, "attempt": unit.attempt}
    store, kind = folder.store, unit.payload["kind"]
    with memory_limited(memory), _given_back(place.device):
        if kind == "trial":
            return _do_trial(unit, config, store, common, place)
        if measure := _MEASURED.get(kind):
            rows = measure(config, store, unit.payload, place.device)
            place.require_driver(store.root)
            store.publish(kind, unit.key, [row | common for row in rows])
            return Outcome(Status.OK, PENALTY, f"{kind.replace('_', ' ')} of {len(rows)} networks")
        judged = judge(config, store, unit.payload, place.device)
    provenance = _provenance(place.device) | {"config_hash": config_hash(canonical(config))}
    place.require_driver(store.root)
    if judged.evaluations:
        store.publish("evaluations", unit.key, [row | common | provenance for row in judged.evaluations])
    if judged.spectra:
        store.publish("spectra", unit.key, [row | common for row in judged.spectra])
    measured = f", curvature of {len(judged.spectra)}" if judged.spectra else ""
    return Outcome(Status.OK, PENALTY, f"{len(judged.evaluations)} networks{measured}")


@lru_cache(maxsize=4)
def _checksum(task: TaskConfig, device: str) -> str:
    return data_checksum(load_task(task, device))


def _do_trial(unit: Unit, config: RunConfig, store: Store, common: dict[str, Any], place: _Place) -> Outcome:
    payload = unit.payload
    # The process of an earlier attempt may have died after its row was on disk, and before it could say so.
    if unit.attempt and (before := outcome_on_disk(store, unit.key)):
        return before
    trial = trial_config(config, payload["method"], payload["number"], payload["params"])
    common = {**common, "trial_id": unit.key}
    key = trial_key(unit.key, unit.attempt)
    if original := payload.get("copy_of"):
        copy = copy_of(store, original, trial)
        place.require_driver(store.root)
        store.publish("trials", key, [copy | common | _provenance(place.device)])
        return Outcome.of_row(copy)
    name, damaged = config_hash(canonical(trial)), list[checkpoint.Damaged]()
    leg = _leg(store, trial, payload, damaged)
    keeper = Keeper(
        store.root, unit.key, name, place.checkpoint_seconds, guard=lambda: place.require_driver(store.root)
    )
    progress = ProgressFile(progress_folder(store.root), unit.key)
    try:
        records = run_trial(
            trial,
            progress,
            device=place.device,
            leg=leg,
            shards=place.shards,
            keeper=keeper,
            max_seconds=config.search.max_trial_seconds,
        )
    finally:
        progress.close()
    place.require_driver(store.root)
    said = _what_became_of_checkpoints(leg, damaged, keeper)
    if records.checkpoint and "until" in payload and "below" not in payload:
        checkpoint.save(store.root, unit.key, name, records.checkpoint)
        outcome = Outcome.of_row(records.trial)
        return replace(outcome, status=Status.OK, paused=True, note=outcome.note + said)
    if records.status in FINISHED:
        for table, rows in (("steps", records.steps), ("activations", records.activations)):
            if rows:
                store.publish(table, key, [row | common for row in rows])
    row = dict(records.trial)
    # What the trial has reached decides about others, also if this unit failed before it could look.
    row["rung_accuracies"] = max(row["rung_accuracies"], payload.get("accuracies"), key=lambda found: len(found or ()))
    # Last, because its row is what makes the trial done.
    store.publish("trials", key, [row | common | _provenance(place.device)])
    if records.status in FINISHED:
        checkpoint.clear(store.root, [unit.key])
    outcome = Outcome.of_row(row)
    return replace(outcome, note=outcome.note + said)


def _leg(store: Store, trial: TrialConfig, payload: Mapping[str, Any], damaged: list[checkpoint.Damaged]) -> Leg:
    """The part of a trial that a payload asks for; see `search.schedule`."""
    until, reached = payload.get("until"), len(payload.get("accuracies", ()))
    last = reached - 1 if until is None else until
    # A leg must see the rung at which it ends, so a checkpoint between rungs has to lie before that.
    step = math.inf if until is None else trial.rungs[until] - 1
    name = config_hash(canonical(trial))
    start = checkpoint.latest(store.root, trial.trial_id, name, last, step=step, damaged=damaged)
    thresholds = payload.get("thresholds", ())
    if "below" in payload:
        thresholds = [*[None] * last, payload["below"]]
    return Leg(start, until, tuple(thresholds))


def _what_became_of_checkpoints(leg: Leg, damaged: Sequence[checkpoint.Damaged], keeper: Keeper) -> str:
    """What people should know of them, to be added to a note; empty for a trial that began at its beginning."""
    said = [f"checkpoint {one.name} was damaged ({one.reason}) and is in quarantine" for one in damaged]
    if leg.start is not None and leg.start.rung == checkpoint.BETWEEN:
        said.append(f"went on after step {leg.start.step}")
    if keeper.failure:
        said.append(f"no checkpoint could be kept: {keeper.failure}")
    return "".join(f"; {one}" for one in said)


def outcome_on_disk(store: Store, trial_id: str) -> Outcome | None:
    """How a finished attempt of the trial ended, if there is one."""
    columns = ["trial_id", "attempt", "status", "error", "rung_accuracies", *OBJECTIVES]
    rows = counted(store.read("trials", columns=columns, keys=store.attempts(trial_id)).to_pylist())
    return next((Outcome.of_row(row) for row in rows if row["status"] in FINISHED), None)


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


@contextmanager
def _given_back(device: str) -> Iterator[None]:
    """Memory of a GPU that the block does not need any more is free for the other processes that share it."""
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()


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
