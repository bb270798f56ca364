"""Driving a run from where it stands to its end: repair, search, evaluate.

The state of a run is what its tables hold.  Starting, resuming and evaluating more are therefore the same thing:
look what is there, do what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search.config import ResourcesConfig, RunConfig, canonical, methods, stored_config, trial_config
from search.driver_lock import driver_lock
from search.evaluate import Request, best_trials, evaluation_units
from search.plan import ChainPlan, ListPlan, Outcome, Plan, Unit, Watch, run_here
from search.progress import clear_progress
from search.provenance import config_hash, hostname
from search.run_folder import RunFolder
from search.schema import Status
from search.search_plan import Finished, SearchPlan, trial_id
from search.store import BadPart, Store, trial_key

_FINAL = (Status.OK, Status.DIVERGED)


@dataclass
class Account:
    """What a drive of a run did, for people.

    Attributes:
        quarantined: parts that were damaged or belonged to no finished attempt, and were moved away.
        skipped: units that were done before.
        finished: units done now.
        problems: units that did not end well, also when tried again, with their last outcomes.
        interrupted: whether it was stopped before its end.
    """

    quarantined: list[BadPart] = field(default_factory=list)
    skipped: int = 0
    finished: int = 0
    problems: list[tuple[Unit, Outcome]] = field(default_factory=list)
    interrupted: bool = False


Begin = Callable[[Plan, Account], Watch]
"""Told the plan and what was repaired before anything starts; returns what watches the units."""


def drive(
    run: RunFolder,
    resources: ResourcesConfig,
    begin: Begin,
    *,
    search: bool = True,
    request: Request | None = None,
    address: str | None = None,
    stop: Callable[[], bool] | None = None,
) -> Account:
    """Do what is missing of a run.

    Args:
        run: the run.
        resources: workers, threads and devices; they change no number.
        begin: called once, before anything starts.
        search: whether missing trials are run.
        request: which evaluations are wanted; by default those that the configuration asks for.
        address: of a Ray cluster; None starts one here.
        stop: asked often; once true, running units end and nothing further starts.

    Raises:
        RunFolderError: another process drives the run.
        StoreError: the folder cannot be read or written.
        ClusterError: no cluster answers, or it is too small.
    """
    config = stored_config(run.info.config, run.path)
    store, account = run.store, Account()
    with driver_lock(run):
        account.quarantined = [*store.repair(), *store.sweep_orphans()]
        clear_progress(run.path / "logs")
        plan = _plan(config, store, search=search, request=request, resources=resources)
        account.skipped = plan.done
        told = begin(plan, account)
        ended: dict[str, tuple[Unit, Outcome]] = {}

        def watch(event: str, unit: Unit, outcome: Outcome | None) -> None:
            if outcome is not None:
                ended[unit.key] = unit, outcome
                account.finished = len(ended)
                account.problems = [one for one in ended.values() if one[1].status is not Status.OK]
                if outcome.status not in _FINAL:
                    _publish_ending(run, unit, outcome)
            told(event, unit, outcome)

        work_args = {"run": str(run.path), "device": resources.device}
        if plan.done < plan.total:
            _run(plan, resources, work_args, watch, address, stop)
        account.quarantined += store.sweep_orphans()
        account.interrupted = plan.done < plan.total
    return account


def _run(
    plan: Plan,
    resources: ResourcesConfig,
    work_args: Mapping[str, Any],
    watch: Watch,
    address: str | None,
    stop: Callable[[], bool] | None,
) -> None:
    if resources.workers == 0:
        from search.work import do_unit, threads_limited

        with threads_limited(resources.threads):
            run_here(plan, lambda unit: do_unit(unit, **work_args), watch, stop=stop)
        return
    from search.tune import run_with_ray

    run_with_ray(
        plan,
        "search.work:do_unit",
        workers=resources.workers,
        threads=resources.threads,
        work_args=work_args,
        gpus_per_unit=resources.gpus_per_trial,
        workers_per_unit=resources.workers_per_trial,
        gpus_per_worker=resources.gpus_per_worker,
        address=address,
        watch=watch,
        stop=stop,
    )


def _plan(
    config: RunConfig, store: Store, *, search: bool, request: Request | None, resources: ResourcesConfig
) -> Plan:
    retries = config.search.max_retries

    def evaluations() -> ListPlan:
        wanted = request or default_request(config, store)
        units, done = evaluation_units(config, store, wanted)
        return ListPlan(units, already_done=done, max_retries=retries)

    if not search:
        return evaluations()
    trials = _search_plan(config, store)
    expected = 0
    if config.evaluation.best:
        sets = min(config.evaluation.best, config.search.trials) * len(methods(config)) + bool(config.evaluation.usual)
        expected = sets * len(config.evaluation.widths) * len(config.evaluation.depths)
    return ChainPlan(trials, evaluations if expected else ListPlan.empty, expected=expected)


def default_request(config: RunConfig, store: Store) -> Request:
    """The evaluations that a configuration asks for: its best trials at its sizes."""
    evaluation = config.evaluation
    best = tuple(best_trials(store, evaluation.best))
    return Request(best, evaluation.widths, evaluation.depths, evaluation.seeds)


def _search_plan(config: RunConfig, store: Store) -> SearchPlan:
    from search.tune import optuna_suggesters

    suggesters = optuna_suggesters(config.search, methods=methods(config), seed=config.seed, study=config.name)
    finished, attempts = trials_so_far(config, store)
    return SearchPlan(
        suggesters,
        trials=config.search.trials,
        wave=config.search.wave,
        finished=finished,
        attempts=attempts,
        max_retries=config.search.max_retries,
    )


def trials_so_far(config: RunConfig, store: Store) -> tuple[dict[str, Finished], dict[str, int]]:
    """Trials that will not be run again, and for the others how many attempts there were.

    A trial that failed is tried again on resume, unless trials of a later wave were sampled with its failure known:
    then its failure stands, as another result would have led to other samples.
    """
    rows = store.read("trials", columns=["trial_id", "attempt", "method", "number", "status", "score", "params"])
    last: dict[str, dict[str, Any]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: row["attempt"]):
        last[row["trial_id"]] = row
    latest_wave: dict[str, int] = {}
    for row in last.values():
        wave = row["number"] // config.search.wave
        latest_wave[row["method"]] = max(wave, latest_wave.get(row["method"], 0))
    finished, attempts = {}, {}
    for key, row in last.items():
        settled = row["number"] // config.search.wave < latest_wave[row["method"]]
        status = Status(row["status"])
        if status in _FINAL or settled:
            finished[key] = Finished(json.loads(row["params"]), row["score"], status)
        else:
            attempts[key] = row["attempt"] + 1
    return finished, attempts


def _publish_ending(run: RunFolder, unit: Unit, outcome: Outcome) -> None:
    """The row of an attempt that could not write one itself: its process died, or publishing failed.

    Where the attempt has written one, that one stands.
    """
    if unit.payload["kind"] != "trial":
        return
    config = stored_config(run.info.config, run.path)
    method, number = unit.payload["method"], unit.payload["number"]
    row = {
        "run_id": run.info.run_id,
        "trial_id": trial_id(method, number),
        "attempt": unit.attempt,
        "method": method,
        "number": number,
        "task": config.task.name,
        "status": str(outcome.status),
        "error": outcome.note,
        "params": json.dumps(dict(unit.payload["params"]), sort_keys=True),
        "hostname": hostname(),
        "config_hash": config_hash(canonical(trial_config(config, method, number, unit.payload["params"]))),
    }
    run.store.publish("trials", trial_key(unit.key, unit.attempt), [row])
