"""How far a run is: read from its tables and progress files, also while it runs and without touching it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from analysis import load_run, objectives_of, pareto_table
from analysis.pareto import pareto_sentence
from jobs.terminal import AS_IT_IS, console, print_json, print_table
from search.attempts import counted
from search.checkpoint import rungs_reached
from search.config import methods, stored_config
from search.location import Location
from search.progress import progress_folder, read_progress
from search.run_folder import open_run
from search.schema import OBJECTIVES, Status
from search.search_plan import trial_id
from search.storage import Storage
from search.store import QUARANTINE
from search.unjudged import read_unjudged, unjudged_words

_COLUMNS: Final = {
    "cross_size_drop": ("drop [0..1]", "{:.3f}"),
    "num_params": ("parameters", "{}"),
    "flatness": ("flatness", "{:.3g}"),
}
"""Further objectives: head of the column, and how a value is written."""

_RECENT: Final = 50
"""Ends of trials by which the rate is told."""
_START_SECONDS: Final = 10.0
"""What starting a trial may take beside what it takes itself."""


def run_status(path: Location) -> dict[str, Any]:
    """Everything that `ldnn status` says, as plain JSON values.

    Raises:
        RunFolderError: there is no run.
    """
    run = open_run(path)
    config = stored_config(run.info.config, run.path)
    rows, bad = run.store.read_checked("trials")
    ended = {row["trial_id"]: row for row in counted(rows.to_pylist())}
    running = read_progress(progress_folder(run.path))
    paused = rungs_reached(run.path)
    trials = []
    for method in methods(config):
        for number in range(config.search.trials):
            key = trial_id(method, number)
            row, state = ended.get(key), running.get(key)
            entry: dict[str, Any] = {"trial_id": key, "state": "waiting", "score": None, "wall_seconds": None}
            if state is not None:
                entry |= {"state": "running", "step": state["done"], "of": state["total"], "pid": state["pid"]}
                entry["wall_seconds"] = state["seconds"]
            elif row is not None:
                entry |= {"state": row["status"], "score": row["score"], "wall_seconds": row["wall_seconds"]}
                entry |= {"attempt": row["attempt"], "error": row["error"], "copied_from": row["copied_from"]}
                entry |= {name: row[name] for name in OBJECTIVES if name != "score"}
            elif key in paused:
                entry |= {"state": "paused", "rung": paused[key]}
            trials.append(entry)
    found = load_run(run.path)
    pareto = pareto_table(found)
    evaluations, bad_evaluations = run.store.read_checked("evaluations", columns=["trial_id"])
    folders = run.store.storage.bytes_by_folder()
    waiting = sum(trial["state"] in ("waiting", "paused", "running") for trial in trials)
    return {
        "run": str(run.path),
        "run_id": run.info.run_id,
        "created_at": run.info.created_at,
        "lineage": run.info.lineage,
        "revisions": [
            {"reason": one.reason, "created_at": one.created_at, "changes": list(one.changes)} for one in run.revisions
        ],
        "trials": trials,
        "trials_per_hour": (per_hour := trials_per_hour([*ended.values()])),
        "hours_left": waiting / per_hour if per_hour else None,
        "attempts": rows.num_rows,
        "failures": failures(rows.to_pylist()),
        "objectives": list(objectives_of(found)),
        "pareto_set": pareto.loc[pareto["front"], "trial_id"].tolist(),
        "pareto_words": pareto_sentence(found),
        "evaluated_networks": evaluations.num_rows,
        "not_judged": read_unjudged(run.store.storage),
        "damaged_parts": [str(part) for part in (*bad, *bad_evaluations)],
        "disk_bytes": sum(folders.values()),
        "disk_bytes_by_folder": folders,
        "quarantined_parts": quarantined(run.store.storage),
    }


def trials_per_hour(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """How fast trials have ended of late, pauses of the run left out; None with fewer than two.

    A time between two ends that is longer than any trial has taken is a pause: nobody was at work.
    """
    run_here = [row for row in rows if row["copied_from"] is None and row["wall_seconds"] is not None]
    ends = sorted(row["created_at"] for row in run_here)[-_RECENT:]
    longest = max((row["wall_seconds"] for row in run_here), default=0.0)
    gaps = [(after - before).total_seconds() for before, after in pairwise(ends)]
    worked = [gap for gap in gaps if gap <= longest + _START_SECONDS]
    return 3600 * len(worked) / sum(worked) if worked and sum(worked) > 0 else None


def failures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why attempts did not end well: status, words, how many, and the first of their trials; most frequent first.

    Numbers in the words are passed over when they are counted, as they differ from trial to trial.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["trial_id"], row["attempt"])):
        if row["status"] in (Status.OK, Status.PRUNED):
            continue
        words = row["error"] or "no reason is known"
        key = row["status"], re.sub(r"\d+(\.\d+)?", "#", words)
        entry = found.setdefault(key, {"status": row["status"], "count": 0, "words": words, "first": row["trial_id"]})
        entry["count"] += 1
    return sorted(found.values(), key=lambda entry: -entry["count"])


def quarantined(storage: Storage) -> int:
    """How many files were put aside, reports not counted."""
    names = (name for folder in storage.names(QUARANTINE) for name in storage.names(f"{QUARANTINE}/{folder}"))
    return sum(not name.endswith(".json") for name in names)


def show_status(path: Location, *, as_json: bool) -> None:
    """Print `run_status`."""
    found = run_status(path)
    if as_json:
        print_json(found)
        return
    out = console()
    others = [name for name in found["objectives"] if name in _COLUMNS]
    numbers = ["progress", "score [%]", "time [s]", *(_COLUMNS[name][0] for name in others)]
    rows = []
    for trial in found["trials"]:
        progress = f"{trial['step']}/{trial['of']}" if "step" in trial else ""
        if "rung" in trial:
            progress = f"rung {trial['rung'] + 1}"
        score = "" if trial["score"] is None else f"{100 * trial['score']:.1f}"
        seconds = "" if trial["wall_seconds"] is None else f"{trial['wall_seconds']:.0f}"
        copied = f"copy of {trial['copied_from']}" if trial.get("copied_from") else ""
        values = ["" if (value := trial.get(name)) is None else _COLUMNS[name][1].format(value) for name in others]
        front = ["in it" if trial["trial_id"] in found["pareto_set"] else ""] if others else []
        why = trial.get("error") or copied
        rows.append((trial["trial_id"], trial["state"], progress, score, seconds, *values, *front, why))
    heads = ("trial", "state", *numbers, *(["Pareto set"] if others else []), "why")
    print_table(heads, rows, title=found["run_id"], right=numbers)
    states = [trial["state"] for trial in found["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    out.print(f"{len(states)} trials: {counts}. {found['evaluated_networks']} networks evaluated.")
    if found["pareto_words"]:
        out.print(found["pareto_words"], markup=False)
    if rate := found["trials_per_hour"]:
        left = found["hours_left"]
        words = f"; the trials that are left take about {_duration(left)}" if left else ""
        out.print(f"{rate:{'.3g' if rate < 1000 else '.0f'}} trials an hour{words}.")
    for one in found["failures"]:
        out.print(f"{one['count']} attempts {one['status']}, first {one['first']}: {one['words']}", markup=False)
    for words in unjudged_words(found["not_judged"]):
        out.print(words, **AS_IT_IS)
    for one in found["revisions"]:
        changes = ", ".join(f"{change['key']}: {change['old']} -> {change['new']}" for change in one["changes"])
        out.print(f"{one['created_at'][:19]} {one['reason']}: {changes}", markup=False)
    folders = sorted(found["disk_bytes_by_folder"].items(), key=lambda item: -item[1])[:4]
    largest = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in folders)
    out.print(f"{found['disk_bytes'] / 1e6:.1f} MB on disk ({largest}).")
    if found["quarantined_parts"]:
        out.print(f"{found['quarantined_parts']} files in quarantine, each with a report beside it.")
    for part in found["damaged_parts"]:
        out.print(f"damaged: {part}", markup=False)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1.5 else f"{60 * hours:.0f} min" if hours > 1 / 40 else f"{3600 * hours:.0f} s"
