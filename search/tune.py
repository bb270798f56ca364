"""Ray Tune as the runner of a plan; with `search.ray_shards` the only module that imports Ray.

A unit is a Tune trial of one step, and actors are reused from unit to unit.  Tune schedules, starts processes and
notices when they die; what is to be done is the plan's, and results are published by the work itself.  So nothing
that Ray writes is ever read again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from search import ray_setup

ray_setup.set_import_environment()

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray._private import worker as ray_worker  # noqa: E402
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # noqa: E402
from ray.tune.experiment import Trial  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from search.booking import Booking  # noqa: E402
from search.ledger import IDLE, IDLE_SECONDS_PER_WORKER, Ledger  # noqa: E402
from search.limits import ShardLimits  # noqa: E402
from search.plan import (  # noqa: E402
    PENALTY,
    Deadlines,
    OnDisk,
    Outcome,
    Plan,
    Unit,
    Watch,
    attempt,
    no_deadline,
    not_on_disk,
)
from search.ray_setup import ClusterError  # noqa: E402
from search.ray_shards import RayShards  # noqa: E402
from search.search_plan import METRIC  # noqa: E402

__all__ = ["ClusterError", "run_with_ray"]

_LOOK_SECONDS: Final = 2.0
"""How often it is checked that what waits to start can start."""

_OBJECT_STORE_BYTES: Final = 100 * 2**20
"""Of a local Ray; units pass a few numbers, and data goes by path."""


def run_with_ray(
    plan: Plan,
    work: str | Callable[..., Outcome],
    *,
    workers: int,
    threads: int,
    work_args: Mapping[str, Any],
    gpus_per_unit: float = 0.0,
    workers_per_unit: int = 0,
    gpus_per_worker: float = 0.0,
    shard_limits: ShardLimits = ShardLimits(),  # noqa: B008 - it is frozen
    address: str | None = None,
    watch: Watch,
    stop: Callable[[], bool] | None = None,
    deadline: Deadlines = no_deadline,
    on_disk: OnDisk = not_on_disk,
) -> None:
    """Run a plan's units as Ray Tune trials, several at a time, in processes that are used again.

    A unit whose process dies is told to the plan as killed; the plan may hand it out again.  Handlers of signals
    are the caller's: let them make `stop` true.  An exception such as KeyboardInterrupt ends everything at once.

    Args:
        plan: what to do.
        work: called as ``work(unit, **work_args)`` in the workers: "module:function", or a function that can be
            imported by that name.  It publishes its results before it returns.
        workers: units that run at the same time.
        threads: cores that each unit may use.
        work_args: further arguments of the work; JSON-able, the same for all units.
        gpus_per_unit: whole GPUs, or a part of one.
        workers_per_unit: further processes for each unit, which do shards for it; then the work is called with a
            further argument ``shards``.  Where nodes are lost a unit has as many as the others can hold.
        gpus_per_worker: whole GPUs, or a part of one, for each of those.
        shard_limits: what each of those may take for a shard.
        address: host:port of a Ray cluster that this machine is a node of, or "auto"; None starts a Ray of our own.
        watch: told when a unit starts and when it ends.
        stop: asked often; once it says true no further unit starts, and the call returns when the running ones end.
        deadline: at which a unit that has not ended is ended with its process, and its status is timeout.
        on_disk: how a unit ended whose process died, if it was done and on disk just before.

    Raises:
        ValueError: an argument is out of its range, or `work` cannot be imported by its name.
        ClusterError: no cluster answers, or it has not what is asked for; nothing was started then.
    """
    if workers < 1 or threads < 1 or not 0 <= gpus_per_unit < float("inf") or (gpus_per_unit > 1 and gpus_per_unit % 1):
        raise ValueError(
            "workers >= 1, threads >= 1 and gpus_per_unit >= 0, whole above 1, must hold, "
            f"but got (workers={workers}, threads={threads}, gpus_per_unit={gpus_per_unit})"
        )
    booking = Booking(threads, gpus_per_unit, workers_per_unit, gpus_per_worker)
    name = work if isinstance(work, str) else f"{work.__module__}:{work.__qualname__}"
    if not isinstance(work, str) and (work.__module__ == "__main__" or _imported(name) is not work):
        raise ValueError(f"work must be a function that can be imported by its name, but got {name}")
    _imported(name)
    python_path = ray_setup.python_path(sys.modules[__name__], sys.modules[name.partition(":")[0]])
    if plan.done >= plan.total:
        return
    ledger = Ledger(plan, watch, stop, deadline, on_disk=on_disk)
    job = json.dumps(
        {
            "work": name,
            "work_args": dict(work_args),
            "threads": threads,
            "pause": IDLE_SECONDS_PER_WORKER * workers,
            "shards": {"gpus": gpus_per_worker, "limits": asdict(shard_limits)} if workers_per_unit else None,
        }
    )
    with ray_setup.scratch() as scratch, _ray(scratch, address, python_path, booking, workers=workers):
        tune.Tuner(
            tune.with_resources(_UnitTrainable, partial(_request, booking)),
            param_space={"job": job},
            tune_config=tune.TuneConfig(
                search_alg=_PlanSearcher(ledger),
                scheduler=_UnitScheduler(ledger, booking),
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch / "storage"),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0, fail_fast=False),
                callbacks=[_Starts(ledger)],
            ),
        ).fit()
    if ledger.error is not None:
        raise ledger.error


def _request(booking: Booking, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial asks for: its booking, with fewer workers when nodes that were there at the start are lost."""
    if booking.workers:
        booking = booking.fitting(node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
    return tune.PlacementGroupFactory(booking.bundles)


@contextlib.contextmanager
def _ray(scratch: Path, address: str | None, python_path: str, booking: Booking, *, workers: int) -> Iterator[None]:
    """A running Ray, local or joined; shut down, and everything about this process put back, afterwards."""
    if ray.is_initialized():
        raise ClusterError("Ray must not be initialised in this process yet, but it is; call ray.shutdown() before")
    if address is not None:
        ray_setup.check_resources(ray_setup.cluster_nodes(address), booking, workers=workers)
        environment: dict[str, str | None] = {}
        arguments: dict[str, Any] = {"address": address, "runtime_env": {"env_vars": {"PYTHONPATH": python_path}}}
    else:
        environment = {
            "PYTHONPATH": python_path,
            ray_setup.SCRATCH_VARIABLE: str(scratch),
            # The one switch that makes Ray listen on loopback only: with it, its node has the address 127.0.0.1.
            ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",
            **ray_setup.token_environment(scratch),
        }
        arguments = {
            "address": "local",  # not that of RAY_ADDRESS
            "num_cpus": workers * (1 + booking.workers) * booking.threads,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": str(scratch),
        }
    # Three things that Ray has no public switch for; the tests hold that each has its effect.
    many_nodes, print_message = ray_constants.ENABLE_RAY_CLUSTER, ray_worker.print_to_stdstream
    with _quiet_logs(), ray_setup.kept_signal_handlers() as handlers, ray_setup.environment(environment):
        # 1. Read from the environment when Ray is imported, which may be long ago.
        on_loopback = os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR) == "0"
        ray_constants.ENABLE_RAY_CLUSTER = address is not None and not on_loopback
        # 2. The token of an earlier Ray in this process.
        AuthenticationTokenLoader.instance().reset_cache()
        # 3. Ray tells of a dead worker on our standard output; we have that from the trial.
        ray_worker.print_to_stdstream = lambda *_, **__: None
        try:
            try:
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **arguments)
            except (ConnectionError, RuntimeError) as error:
                if address is None:
                    raise
                words = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ClusterError(f"cannot join {address} ({words}); start ldnn on a node of that cluster") from error
            ray_setup.restore_signal_handlers(handlers)
            if address is None:
                here = ray.cluster_resources()  # type: ignore[no-untyped-call]
                ray_setup.check_resources([here], booking, workers=workers)
            yield
        finally:
            ray.shutdown()
            ray_constants.ENABLE_RAY_CLUSTER, ray_worker.print_to_stdstream = many_nodes, print_message
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    # What they say reaches the caller as exceptions and outcomes; the terminal belongs to the progress display.
    names = ("ray", "ray.tune", "ray.tune.tune", "ray.tune.execution.tune_controller")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _imported(name: str) -> Callable[..., Outcome]:
    module, _, function = name.partition(":")
    try:
        work: Callable[..., Outcome] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"work must be 'module:function' and importable, but got {name!r} ({error})") from error
    return work


class _UnitTrainable(tune.Trainable):
    """Does one unit in its only step; lives in a worker, from unit to unit."""

    def setup(self, config: dict[str, Any]) -> None:
        self._job = json.loads(config["job"])
        # Read when the mathematical libraries are loaded, which the import of the work does first.
        ray_setup.limit_threads(self._job["threads"])
        self._shards: RayShards | None = None
        if (shards := self._job["shards"]) is not None:
            limits = ShardLimits(**shards["limits"])
            self._shards = RayShards(threads=self._job["threads"], gpus=shards["gpus"], limits=limits)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._unit = new_config["unit"]
        return True

    def step(self) -> dict[str, Any]:
        if self._unit == IDLE:
            time.sleep(self._job["pause"])
            return {METRIC: PENALTY, "done": False}
        outcome = attempt(self._work, Unit(**json.loads(self._unit)))
        told = {"status": str(outcome.status), "note": outcome.note, "rungs": outcome.rungs, "paused": outcome.paused}
        told["values"] = json.dumps(dict(outcome.values))
        return {METRIC: float(outcome.score), **told, "done": True}

    def _work(self, unit: Unit) -> Outcome:
        work = _imported(self._job["work"])
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self._job["threads"])
        more = {"shards": self._shards} if self._shards else {}
        return work(unit, **self._job["work_args"], **more)

    def cleanup(self) -> None:
        if self._shards:
            self._shards.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a unit is done whole or not at all."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing was saved."""


class _PlanSearcher(Searcher):
    """A plan as Tune's search algorithm."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def suggest(self, trial_id: str) -> Any:
        if self._ledger.over():
            return Searcher.FINISHED
        unit = self._ledger.hand_out(trial_id)
        return None if unit is None else {"unit": unit}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._ledger.ended(trial_id, None if error else result)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's state is never restored."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: Tune's state is never restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class _UnitScheduler(FIFOScheduler):
    """Lets an idle trial step on until there is a unit for its actor, and gives up a trial that can never start.

    Without idle trials Tune would end an actor that finds nothing to do, and a new one takes seconds to start;
    at the end of every wave all actors but one would be lost.

    A trial that waits for more bundles than the living nodes could hold would wait for ever: a process that died
    with its node is known to be dead many seconds before the node is.  Its unit is handed out again, and then asks
    for what there is.
    """

    def __init__(self, ledger: Ledger, booking: Booking) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger = ledger
        self._booking = booking
        self._next_look = 0.0

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        self._end_overdue(tune_controller)
        if self._booking.workers and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            possible = len(_request(self._booking, {}).bundles)
            for trial in list(tune_controller.get_live_trials()):
                asked = len(trial.placement_group_factory.bundles)
                if trial.status == Trial.PENDING and asked > possible:
                    cause = f"it waited for {asked} processes, but nodes were lost and the others hold {possible}"
                    self._ledger.died(trial.trial_id, cause)
                    tune_controller.stop_trial(trial)
        # Tune's own looks through all trials there ever were, each time; of those that are left few are pending, and
        # which of them is first changes no result.
        return next((one for one in tune_controller.get_live_trials() if one.status == Trial.PENDING), None)

    def _end_overdue(self, tune_controller: Any) -> None:
        if not (overdue := self._ledger.overdue()):
            return
        for trial in list(tune_controller.get_live_trials()):
            if trial.trial_id in overdue and (actor := trial.temporary_state.ray_actor) is not None:
                # It does not listen any more.  Tune notices the death as any other.
                ray.kill(actor)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        decision: str = TrialScheduler.CONTINUE if self._ledger.idles_on(trial.trial_id) else TrialScheduler.STOP
        return decision

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        with contextlib.suppress(OSError):
            # The first line says when; the second why; the others where to look in files that are gone by then.
            cause = Path(trial.error_file or "").read_text(encoding="utf-8").splitlines()[1:2]
            self._ledger.died(trial.trial_id, f"its process died: {' '.join(cause)}"[:500])


class _Starts(tune.Callback):
    """Tells the ledger when a worker takes up a trial, and lets go of what Tune remembers of one that has ended."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._ledger.started(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # Tune keeps every trial to the end of the run, and with each the largest, least, mean and recent values of
        # every number that it reported: half of what a trial costs the driver in memory, and nobody asks for it.
        trial.run_metadata.metric_analysis = {}
        trial.run_metadata.metric_n_steps = {}
