"""Shards done by long-lived Ray actors, which live beside the unit that owns them and from one unit to the next."""

from __future__ import annotations

import importlib
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from search import ray_setup

ray_setup.set_import_environment()

import ray  # noqa: E402
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError  # noqa: E402
from ray.util import get_current_placement_group  # noqa: E402
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # noqa: E402

from search.limits import OutOfTime, ShardLimits, memory_limited  # noqa: E402
from search.shards import Arrays, Body, WorkersLostError, body_name, do_shard  # noqa: E402

if TYPE_CHECKING:
    from search.setting import Setting

TRIES: Final = 3
"""How often a shard is handed out when the worker that has it dies, or does not answer; then the fault is taken to be
the shard's."""

STARTS: Final = 3
"""How often in a row a worker may die before it is ready; then the others go on without it."""

PATIENCE_SECONDS: Final = 60.0
"""How long a unit without any living worker waits for one to start before it does shards by itself."""

_LOOK_SECONDS: Final = 1.0


@ray.remote
class _ShardWorker:
    """Does one shard at a time."""

    def __init__(self, threads: int, memory: int) -> None:
        ray_setup.limit_threads(threads)
        self._threads, self._memory = threads, memory

    def ready(self) -> None:
        """Import what takes seconds, so that no shard waits for it while another worker could do it."""
        importlib.import_module("search.setting")
        sys.modules["torch"].set_num_threads(self._threads)

    def do(self, body: str, config: str, device: str, outer_step: int, shard: Arrays) -> Arrays:
        """See `do_shard`."""
        with memory_limited(self._memory):
            return do_shard(body, config, device, outer_step, shard)


@dataclass(eq=False)
class _Worker:
    """One bundle of the placement group and the actor that is in it now.

    Attributes:
        bundle: its index in the placement group.
        actor: its handle.
        starting: settles when the actor is ready or has died; None once it is ready.
        since: when the start was asked for, seconds.
        failed: starts in a row that ended in death.
    """

    bundle: int
    actor: Any = None
    starting: Any = None
    since: float = 0.0
    failed: int = 0


@dataclass(frozen=True)
class _Task:
    """A shard that a worker has.

    Attributes:
        worker: who has it.
        index: of the shard.
        since: when it was handed out, seconds.
    """

    worker: _Worker
    index: int
    since: float


class RayShards:
    """Shards over the actors of this process, one in each bundle of its placement group but the first; see `Shards`.

    A worker that dies is started again in its bundle; one that has not answered at its shard's deadline is ended, and
    then too.  While its bundle has no node the others go on without it, and while there is no worker at all the shards
    are done in this process: nothing waits for what may never come.

    Args:
        threads: cores of each worker.
        gpus: of each worker; whole, or a part of one.
        limits: what a worker may take for a shard.
        workers: how many outside a placement group; inside, there are as many as it has bundles for.
    """

    def __init__(
        self,
        *,
        threads: int,
        gpus: float = 0.0,
        limits: ShardLimits = ShardLimits(),  # noqa: B008 - it is frozen
        workers: int = 0,
    ) -> None:
        self._threads, self._gpus, self._limits = threads, gpus, limits
        self._group = get_current_placement_group()
        count = workers if self._group is None else self._group.bundle_count - 1
        self._workers = [_Worker(bundle) for bundle in range(1, 1 + count)]
        for worker in self._workers:
            self._start(worker)

    def map(self, body: Body, setting: Setting, outer_step: int, shards: Sequence[Arrays]) -> list[Arrays]:
        """See `Shards.map`."""
        running: dict[Any, _Task] = {}
        try:
            return self._map(body, setting, outer_step, shards, running)
        except Exception:
            # Nobody waits for the others any more, and the next shards would have to.
            _, at_work = ray.wait([*running], num_returns=len(running), timeout=0) if running else ([], [])
            for answer in at_work:
                self._start(running[answer].worker)
            raise

    def _map(
        self, body: Body, setting: Setting, outer_step: int, shards: Sequence[Arrays], running: dict[Any, _Task]
    ) -> list[Arrays]:
        """As `map`; ``running`` holds who has which shard, also when it raises."""
        call = (body_name(body), setting.config.model_dump_json(), str(setting.device), outer_step)
        deadline = self._limits.deadline(setting.config.outer_steps)
        waiting, tries = deque(range(len(shards))), Counter[int]()
        found: dict[int, Arrays] = {}

        def again(task: _Task, failure: Exception) -> None:
            waiting.appendleft(task.index)
            tries[task.index] += 1
            self._start(task.worker)
            if tries[task.index] == TRIES:
                raise _given_up(outer_step, task.index, len(shards), failure) from None

        while len(found) < len(shards):
            self._see_who_is_ready()
            busy = {id(task.worker) for task in running.values()}
            for worker in self._workers:
                if waiting and worker.actor is not None and worker.starting is None and id(worker) not in busy:
                    index = waiting.popleft()
                    answer = worker.actor.do.remote(*call, shards[index])
                    running[answer] = _Task(worker, index, time.monotonic())
            starting = [worker.starting for worker in self._workers if worker.starting is not None]
            if not running and not self._worth_waiting():
                index = waiting.popleft()
                found[index] = body(setting, outer_step, shards[index])
                continue
            settled, _ = ray.wait([*running, *starting], timeout=_LOOK_SECONDS)
            for answer in (one for one in settled if one in running):
                task = running.pop(answer)
                try:
                    found[task.index] = ray.get(answer)
                except RayTaskError as error:  # the body has raised
                    raise (error.cause if isinstance(error.cause, Exception) else error) from None
                except RayError as error:
                    again(task, error)
            for answer, task in list(running.items()):
                if deadline and (seconds := time.monotonic() - task.since) > deadline.seconds:
                    again(running.pop(answer), OutOfTime(deadline.passed(seconds)))
        return [found[index] for index in range(len(shards))]

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            self._end(worker)

    def _see_who_is_ready(self) -> None:
        for worker in self._workers:
            if worker.starting is None or not ray.wait([worker.starting], timeout=0)[0]:
                continue
            try:
                ray.get(worker.starting)
                worker.starting, worker.failed = None, 0
            except RayError:
                worker.failed += 1
                if worker.failed < STARTS:
                    self._start(worker)
                else:
                    self._end(worker)

    def _worth_waiting(self) -> bool:
        now = time.monotonic()
        return any(worker.starting is not None and now - worker.since < PATIENCE_SECONDS for worker in self._workers)

    def _start(self, worker: _Worker) -> None:
        self._end(worker)
        options: dict[str, Any] = {"num_cpus": self._threads, "num_gpus": self._gpus, "max_restarts": 0}
        if self._group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self._group, placement_group_bundle_index=worker.bundle
            )
        actor = _ShardWorker.options(**options)  # type: ignore[attr-defined]
        worker.actor = actor.remote(self._threads, self._limits.memory)
        worker.starting = worker.actor.ready.remote()
        worker.since = time.monotonic()

    @staticmethod
    def _end(worker: _Worker) -> None:
        if worker.actor is not None:
            ray.kill(worker.actor)
        worker.actor = worker.starting = None


def _given_up(outer_step: int, index: int, count: int, failure: Exception) -> Exception:
    """What the trial ends by: too little time, or memory, have statuses of their own."""
    kind: type[Exception] = WorkersLostError
    if isinstance(failure, OutOfTime):
        kind = OutOfTime
    elif isinstance(failure, OutOfMemoryError):
        kind = MemoryError
    what = "did not answer" if kind is OutOfTime else "died"
    cause = " ".join(str(failure).split())[:300]
    return kind(
        f"outer step {outer_step}: the worker that had shard {index + 1} of {count} {what} {TRIES} times ({cause}); "
        "if there was too little memory, a smaller evolution.shard or gradient.shard, or fewer "
        "resources.workers_per_trial help; with resources.workers_per_trial=0 the trial does its shards by itself"
    )
