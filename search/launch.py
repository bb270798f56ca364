"""Driving a run from where it stands to its end: repair, search, evaluate.

The state of a run is what its tables hold.  Starting, resuming and evaluating more are therefore the same thing:
look what is there, do what is missing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from search import checkpoint
from search.attempts import counted
from search.conditions import Wanted, conditions
from search.config import RunConfig, canonical, identity, methods, stored_config, trial_config
from search.config_tables import ResourcesConfig
from search.data_checksum import require_same_data, task_checksum
from search.driver_lock import LeftBehindError, driver_lock, new_token, require_driver
from search.evaluate import Request, evaluation_units
from search.found_set import best_trials
from search.limits import Deadline, ShardLimits, briefly, deadline_of
from search.plan import ChainPlan, ListPlan, Outcome, Plan, Unit, Watch, run_here
from search.progress import clear_progress, progress_folder
from search.provenance import config_hash, hostname
from search.run_folder import RunFolder, is_run
from search.same_code import same_code
from search.schedule import make_scheduler
from search.schema import FINISHED, OBJECTIVES, Status
from search.search_plan import Finished, SearchPlan, trial_id
from search.store import BadPart, Store, StoreError, trial_key
from search.unjudged import Notes
from search.warm_start import EarlierTrial, earlier_trials

_AS_PLANNED = (Status.OK, Status.PRUNED)


@dataclass
class Account:
    """What a drive of a run did, for people.

    Attributes:
        quarantined: parts that were damaged or belonged to no finished attempt, and were moved away.
        skipped: units that were done before.
        finished: units done now.
        problems: units that did not end well, also when tried again, with their last outcomes.
        interrupted: whether it was stopped before its end.
        gave_up: whether it stopped by itself, because too many trials failed.
        hung: whether it ends because a unit in its own process does not.
        warnings: what people should know before it starts.
    """

    quarantined: list[BadPart] = field(default_factory=list)
    skipped: int = 0
    finished: int = 0
    problems: list[tuple[Unit, Outcome]] = field(default_factory=list)
    interrupted: bool = False
    gave_up: bool = False
    hung: bool = False
    warnings: list[str] = field(default_factory=list)


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
    other_code: bool = False,
    leave: Callable[[Account], NoReturn] | None = None,
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
        other_code: whether missing trials may be run by other code than those that are there; the run then says so.
        leave: ends this process; called in another thread when a unit that is done in it is past its deadline, which
            nothing else can end.  None lets such a unit take as long as it likes.

    Raises:
        RunFolderError: another process drives the run, or trials are missing and the code is not that of the run.
        DataError: something is missing, and the data cannot be had or are not those of the run.
        StoreError: the folder cannot be read or written.
        ClusterError: no cluster answers, or it is too small.
    """
    config = stored_config(run.info.config, run.path)
    store, account, lost = run.store, Account(), threading.Event()
    token = new_token()

    def over() -> bool:
        return lost.is_set() or account.gave_up or (stop is not None and stop())

    with driver_lock(run, lost, token=token):
        store.make_added_folders()
        account.quarantined = [*store.repair(), *store.sweep_orphans()]
        notes = Notes(store.storage, afresh=search)
        clear_progress(progress_folder(run.path))
        trials = _search_plan(run, config, earlier_trials(run.info.warm_start)) if search else None
        plan = _plan(config, store, trials, request)
        account.skipped = plan.done
        if plan.done < plan.total:
            # Networks that are judged later may be so by other code: their rows say which, and nothing builds on them.
            run = same_code(run, account.warnings, required=search and not other_code, revises=search)
            if run.info.data_checksum is not None:
                require_same_data(config.task.name, task_checksum(config.task), run.info.data_checksum)
        told = begin(plan, account)
        ended: set[str] = set()
        problems: dict[str, tuple[Unit, Outcome]] = {}

        def watch(event: str, unit: Unit, outcome: Outcome | None) -> None:
            if outcome is not None and not outcome.paused:
                ended.add(unit.key)
                account.finished = len(ended)
                problems.pop(unit.key, None)
                if outcome.status not in _AS_PLANNED:
                    problems[unit.key] = unit, outcome
                account.gave_up = trials is not None and trials.failed >= config.search.max_failures
                has_no_row = outcome.status not in FINISHED
                if lost.is_set() or (has_no_row and _took_our_place(run, token, lost)):
                    pass  # the run is another driver's, who says how its units end
                elif unit.payload["kind"] != "trial":
                    # Rows of networks say nothing of those that are not there.
                    notes.ended(unit.key, str(outcome.status), outcome.note, attempts=unit.attempt + 1)
                elif has_no_row:
                    _publish_ending(run, unit, outcome)
            told(event, unit, outcome)

        def hung(unit: Unit, outcome: Outcome) -> None:
            if leave is not None:
                briefly(watch, "finished", unit, outcome)
                account.problems, account.interrupted, account.hung = list(problems.values()), True, True
                leave(account)

        work_args = {
            "run": str(run.path),
            "device": resources.device,
            "driver": token,
            "checkpoint_seconds": resources.checkpoint_seconds,
            "memory": resources.memory_per_trial,
        }
        if plan.done < plan.total:
            _run(run, plan, config, resources, work_args, watch, address, over, hung)
        account.problems = list(problems.values())
        if lost.is_set():
            raise StoreError(
                f"{run.path} was taken over by another driver while this one was silent. What it has finished is kept; "
                f"see `ldnn status {run.path}`."
            )
        account.quarantined += store.sweep_orphans()
        account.interrupted = plan.done < plan.total
        if search and not account.interrupted:
            checkpoint.clear_all(run.path)
    return account


def _run(
    run: RunFolder,
    plan: Plan,
    config: RunConfig,
    resources: ResourcesConfig,
    work_args: Mapping[str, Any],
    watch: Watch,
    address: str | None,
    stop: Callable[[], bool] | None,
    hung: Callable[[Unit, Outcome], None],
) -> None:
    trial_seconds = config.search.max_trial_seconds

    def deadline(unit: Unit) -> Deadline | None:
        evaluation_seconds = resources.max_evaluation_seconds
        return deadline_of(unit.payload["kind"], trial_seconds=trial_seconds, evaluation_seconds=evaluation_seconds)

    if resources.workers == 0:
        from search.work import do_unit, threads_limited

        with threads_limited(resources.threads):
            work = partial(do_unit, **work_args)
            run_here(plan, work, watch, stop=stop, deadline=deadline, hung=hung)
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
        shard_limits=ShardLimits(trial_seconds, resources.memory_per_trial),
        address=address,
        watch=watch,
        stop=stop,
        deadline=deadline,
        on_disk=partial(_on_disk, run),
    )


def _on_disk(run: RunFolder, unit: Unit) -> Outcome | None:
    from search.work import outcome_on_disk

    with suppress(StoreError):  # what cannot be read says nothing; the trial is done again
        return outcome_on_disk(run.store, unit.key) if unit.payload["kind"] == "trial" else None
    return None


def _plan(config: RunConfig, store: Store, trials: SearchPlan | None, request: Request | None) -> Plan:
    """Trials, if they are wanted, and what is judged then."""

    def evaluations() -> ListPlan:
        wanted = request or default_request(config, store)
        units, done = evaluation_units(config, store, wanted)
        return ListPlan(units, already_done=done, max_retries=config.search.max_retries)

    if trials is None:
        return evaluations()
    expected = 0
    if config.evaluation.best:
        evaluation = config.evaluation
        learned, usual = min(evaluation.best, config.search.trials) * len(methods(config)), bool(evaluation.usual)
        under = len(conditions(config, Wanted()))
        without_mixing = under // max(1, len(evaluation.mixings))
        expected = (learned * under + usual * without_mixing) * len(evaluation.widths) * len(evaluation.depths)
        expected += (learned + usual) * evaluation.spectral_bias
        # The first step is the same under all regimes.
        starts = (learned * under + usual * without_mixing) // len(config.regimes)
        expected += starts * len(evaluation.widths) * len(evaluation.depths) * evaluation.initial_variance
    return ChainPlan(trials, evaluations if expected else partial(ListPlan, ()), expected=expected)


def default_request(config: RunConfig, store: Store) -> Request:
    """The evaluations that a configuration asks for: its best trials at its sizes."""
    evaluation = config.evaluation
    best = tuple(best_trials(store, evaluation.best))
    return Request(best, evaluation.widths, evaluation.depths, evaluation.seeds)


def _search_plan(run: RunFolder, config: RunConfig, earlier: Sequence[EarlierTrial]) -> SearchPlan:
    from search.sampling import optuna_suggesters

    store, first = run.store, stored_config(run.configs[0], run.path)
    wider = [
        (revision.first_trial, stored_config(revision.config, run.path))
        for revision in run.revisions
        if revision.first_trial is not None
    ]
    sampled = config.search.model_copy(update={"space": first.search.space})
    suggesters = optuna_suggesters(sampled, methods=methods(config), seed=config.seed, earlier=earlier, wider=wider)
    finished, attempts = trials_so_far(config, store)
    checkpoint.clear(store.root, finished)

    def identity_of(method: str, number: int, params: Mapping[str, Any]) -> str:
        return identity(trial_config(config, method, number, params))

    def reached(method: str, number: int, params: Mapping[str, Any]) -> tuple[float, ...]:
        trial = trial_config(config, method, number, params)
        last = len(trial.rungs) - 1
        found = checkpoint.latest(store.root, trial.trial_id, config_hash(canonical(trial)), last)
        return found.accuracies(trial.rungs) if found else ()

    return SearchPlan(
        suggesters,
        trials=config.search.trials,
        wave=config.search.wave,
        finished=finished,
        attempts=attempts,
        max_retries=config.search.max_retries,
        scheduler=lambda: make_scheduler(config.search),
        reached=reached if config.search.scheduler == "halving" else None,
        identity=identity_of if config.search.seeds == "common" else None,  # with seeds of their own none are equal
        objectives=config.search.objectives,
    )


def trials_so_far(config: RunConfig, store: Store) -> tuple[dict[str, Finished], dict[str, int]]:
    """Trials that will not be run again, and for the others how many attempts there were.

    A trial that failed is tried again on resume, unless trials of a later wave were sampled with its failure known:
    then its failure stands, as another result would have led to other samples.  So it does once successive halving
    has decided who goes on in its wave.
    """
    columns = ["trial_id", "attempt", "method", "number", "status", "params", "rung_accuracies", "copied_from"]
    rows = counted(store.read("trials", columns=[*columns, *OBJECTIVES]).to_pylist())
    latest_wave: dict[str, int] = {}
    for row in rows:
        wave = row["number"] // config.search.wave
        latest_wave[row["method"]] = max(wave, latest_wave.get(row["method"], 0))
    decided = {
        (row["method"], row["number"] // config.search.wave)
        for row in rows
        if config.search.scheduler == "halving" and row["status"] in _AS_PLANNED and row["copied_from"] is None
    }
    finished, attempts = {}, {}
    for row in rows:
        key, wave = row["trial_id"], row["number"] // config.search.wave
        settled = wave < latest_wave[row["method"]] or (row["method"], wave) in decided
        status = Status(row["status"])
        if status in FINISHED or settled:
            finished[key] = Finished(json.loads(row["params"]), Outcome.of_row(row))
        else:
            attempts[key] = row["attempt"] + 1
    return finished, attempts


def _took_our_place(run: RunFolder, token: str, lost: threading.Event) -> bool:
    """Whether another driver has come, which a worker may see before this one does; the trial is then the other's."""
    try:
        require_driver(run.path, token)
    except LeftBehindError:
        # A run that is gone altogether has been taken by nobody, and publishing says so.
        if not is_run(run.path):
            return False
        lost.set()
        return True
    return False


def _publish_ending(run: RunFolder, unit: Unit, outcome: Outcome) -> None:
    """The row of a trial's attempt that could not write one itself: its process died, or publishing failed.

    Where the attempt has written one, that one stands.
    """
    config = stored_config(run.info.config, run.path)
    method, number = unit.payload["method"], unit.payload["number"]
    row = {
        "run_id": run.info.run_id,
        "trial_id": trial_id(method, number),
        "attempt": unit.attempt,
        "method": method,
        "number": number,
        "task": config.task.title,
        "status": str(outcome.status),
        "error": outcome.note,
        "params": json.dumps(dict(unit.payload["params"]), sort_keys=True),
        "rung_accuracies": unit.payload.get("accuracies"),
        "hostname": hostname(),
        "config_hash": config_hash(canonical(trial_config(config, method, number, unit.payload["params"]))),
    }
    run.store.publish("trials", trial_key(unit.key, unit.attempt), [row])
