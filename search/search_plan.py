"""The plan of a search: which trials there are, in which waves they are sampled, and how a search goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

from search.copies import Copies, Identity
from search.objectives import Teller
from search.plan import Outcome, Unit
from search.schedule import Orders, RunAll, Scheduler
from search.schema import FINISHED, Status

METRIC: Final = "score"
"""Name under which samplers and Tune are told how good a trial is."""


class Suggester(Protocol):
    """What samples the parameters of one method's trials: `search.sampling.OptunaSuggester`, or like it."""

    @property
    def replays(self) -> bool:
        """Whether a wave that is finished must be sampled again to be learnt from, as it was when it was new."""
        ...

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Sample parameters for the next trial, of which the id ends with its number."""
        ...

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Learn how good a trial was; ``result`` holds a finite number for every objective."""
        ...

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        """Learn of a trial that was sampled and finished before, unless such trials are replayed."""
        ...


class NothingToSample:
    """The suggester of a method for which the space has no entries."""

    replays: Final = False

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """No parameters."""
        return {}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Nothing can be learnt."""

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        """Nothing can be learnt."""


class Finished(NamedTuple):
    """A trial that will not be run again: what the sampler chose, and how its attempt that counts ended."""

    params: Mapping[str, Any]
    outcome: Outcome


Reached = Callable[[str, int, Mapping[str, Any]], tuple[float, ...]]
"""Method, number and parameters of a trial → its accuracies at the rungs at which it can be taken up again."""


class SamplingChangedError(ValueError):
    """A resumed search samples other parameters than those it has stored."""


def trial_id(method: str, number: int) -> str:
    """The name of a trial, e.g. ``gradient-0003``."""
    return f"{method}-{number:04d}"


def number_of(trial_id: str) -> int:
    """The number in the name of a trial."""
    return int(trial_id.rpartition("-")[2])


class SearchPlan:
    """The trials of a search, several methods interleaved.

    Trial n of a method belongs to wave n // wave.  The trials of a wave are all sampled, in order of their
    numbers, once every earlier wave of the method has ended; their results are told to the sampler in the same
    order once the last of them is there.  So what is sampled depends on seed, number and results alone: not on
    the number of workers, nor on the order in which trials end, nor on interruptions.

    What a scheduler decides is told to trials through the payload of their units, see `search.schedule`.  Of trials
    with the same identity the first is run, and the others are copies of its row, however it ended.
    """

    def __init__(
        self,
        suggesters: Mapping[str, Suggester],
        *,
        trials: int,
        wave: int,
        finished: Mapping[str, Finished] | None = None,
        attempts: Mapping[str, int] | None = None,
        max_retries: int = 2,
        objectives: Sequence[str] = (METRIC,),
        scheduler: Callable[[], Scheduler] = RunAll,
        identity: Identity | None = None,
        reached: Reached | None = None,
    ) -> None:
        """Make the plan; samples what can be sampled at once.

        Args:
            suggesters: method → what samples its trials; they take turns in this order.
            trials: trials of each method.
            wave: trials of a method that are sampled from the same history.
            finished: id → trial that was run before.  A killed trial belongs here only when its tries are used up.
            attempts: id → attempts that were recorded before, of trials that will be run again; the next attempt
                gets this number.
            max_retries: how often a trial is handed out again after its process died under this plan.
            objectives: what the suggesters are told of every trial.
            scheduler: makes what decides which trials of a method stop early.
            identity: by which copies are told; None if no two trials are equal.
            reached: tells how far a trial that is not over was run before; None if no trial can be taken up.

        Raises:
            ValueError: a number is out of its range, or a finished trial is none of this plan's.
            SamplingChangedError: a sampler chooses other parameters than those stored.
        """
        if trials < 1 or wave < 1 or max_retries < 0:
            raise ValueError(
                "trials >= 1, wave >= 1 and max_retries >= 0 must hold, "
                f"but got (trials={trials}, wave={wave}, max_retries={max_retries})"
            )
        finished = dict(finished or {})
        ids = {trial_id(method, number) for method in suggesters for number in range(trials)}
        if strange := sorted(finished.keys() - ids):
            raise ValueError(
                f"every finished trial must be one of {', '.join(suggesters)} with a number below {trials}, but got "
                f"{', '.join(strange[:5])}; keep at least as many trials as were run, and the same methods"
            )
        self.failed = 0
        """Trials that have failed under this plan and will not be handed out again by it."""
        self._total = len(ids)
        self._done = len(finished)
        self._attempts = dict(attempts or {})
        self._max_retries = max_retries
        self._deaths: dict[str, int] = {}
        self._retries: deque[Unit] = deque()
        self._running: dict[str, Unit] = {}
        self._turns = deque(
            _Sequence(method, suggester, trials, wave, finished, Teller(objectives), scheduler(), identity, reached)
            for method, suggester in suggesters.items()
        )
        self._sequences = {sequence.method: sequence for sequence in self._turns}

    @property
    def total(self) -> int:
        """Trials of all methods together."""
        return self._total

    @property
    def done(self) -> int:
        """Trials that need no further work."""
        return self._done

    def next_unit(self) -> Unit | None:
        """A trial whose process died, or the next one of the method whose turn it is and that has one ready."""
        unit = self._retries.popleft() if self._retries else self._next_of_methods()
        if unit is not None:
            self._running[unit.key] = unit
        return unit

    def finish(self, unit: Unit, outcome: Outcome) -> None:
        """Record how a trial or a part of it ended; after the last of its wave, sample the next wave.

        Raises:
            ValueError: the unit is not one that is running.
            SamplingChangedError: the next wave is partly stored, and sampled otherwise now.
        """
        if self._running.pop(unit.key, None) != unit:
            raise ValueError(f"only a running unit can finish, but {unit.key} attempt {unit.attempt} is not running")
        sequence = self._sequences[unit.payload["method"]]
        if outcome.paused:
            sequence.pause(unit.key, outcome.rungs)
            return
        if outcome.status is Status.KILLED and self._deaths.get(unit.key, 0) < self._max_retries:
            self._deaths[unit.key] = self._deaths.get(unit.key, 0) + 1
            self._attempts[unit.key] = unit.attempt + 1
            self._retries.append(Unit(unit.key, unit.attempt + 1, unit.payload))
            return
        self._done += 1
        self.failed += outcome.status not in FINISHED
        # Accuracies that a process took with it are known still: those that the unit was told.
        rungs = outcome.rungs or tuple(unit.payload.get("accuracies", ()))
        sequence.settle(unit.key, replace(outcome, rungs=rungs))

    def _next_of_methods(self) -> Unit | None:
        for _ in range(len(self._turns)):
            sequence = self._turns[0]
            self._turns.rotate(-1)
            if sequence.ready:
                payload = sequence.ready.popleft()
                key = trial_id(sequence.method, payload["number"])
                return Unit(key, self._attempts.get(key, 0), payload)
        return None


class _Sequence:
    """The trials of one method: sampled and told wave by wave."""

    def __init__(
        self,
        method: str,
        suggester: Suggester,
        trials: int,
        wave: int,
        finished: Mapping[str, Finished],
        teller: Teller,
        scheduler: Scheduler,
        identity: Identity | None,
        reached: Reached | None,
    ) -> None:
        self.method = method
        self.ready: deque[dict[str, Any]] = deque()
        """Payloads of the current wave's units that have not been handed out."""
        self._suggester = suggester
        self._trials = trials
        self._wave = wave
        self._finished = finished
        self._teller = teller
        self._scheduler = scheduler
        self._copies = Copies(method, identity)
        self._reached = reached or (lambda method, number, params: ())
        self._first = 0
        self._ids: list[str] = []
        self._payloads: dict[str, dict[str, Any]] = {}
        self._results: dict[str, Outcome] = {}
        self._begin()

    def pause(self, key: str, accuracies: tuple[float, ...]) -> None:
        """A trial has reached a rung, and waits for what is decided about it."""
        self._obey(self._scheduler.reached(key, accuracies))

    def settle(self, key: str, outcome: Outcome) -> None:
        """Keep a result back until its wave is complete; then tell all of it and begin the next wave."""
        self._results[key] = outcome
        self._end(key, outcome)
        if len(self._results) < len(self._ids):
            return
        self._tell()
        self._begin()

    def _tell(self) -> None:
        told = self._teller.told([self._results[key] for key in self._ids])
        for key, values in zip(self._ids, told, strict=True):
            self._suggester.on_trial_complete(key, values)
        self._first += len(self._ids)

    def _begin(self) -> None:
        """Begin the next wave that has something to run; waves that are stored whole are only told."""
        while self._first < self._trials:
            numbers = range(self._first, min(self._first + self._wave, self._trials))
            self._ids = [trial_id(self.method, number) for number in numbers]
            stored = [self._finished[key] for key in self._ids if key in self._finished]
            is_whole = len(stored) == len(numbers)
            if is_whole and not self._suggester.replays:
                told = self._teller.told([trial.outcome for trial in stored])
                for number, key, trial, values in zip(numbers, self._ids, stored, told, strict=True):
                    self._suggester.add_evaluated_point(trial.params, values)
                    self._copies.add(key, number, trial.params)
                self._scheduler.begin([key for key in self._ids if not self._copies.original(key)])
                for key, trial in zip(self._ids, stored, strict=True):
                    self._end(key, trial.outcome)
                self._first = numbers.stop
                continue
            self._results = {}
            self._sample(numbers)
            if not is_whole:
                return
            self._tell()
        self._ids, self._results = [], {}

    def _sample(self, numbers: range) -> None:
        self._payloads = {}
        for key, number in zip(self._ids, numbers, strict=True):
            params = self._suggester.suggest(key)
            if trial := self._finished.get(key):
                _check_same(key, params, trial.params)
            self._payloads[key] = {"kind": "trial", "method": self.method, "number": number, "params": params}
            self._copies.add(key, number, params)
        first = self._scheduler.begin([key for key in self._ids if not self._copies.original(key)])
        first |= {key: {"copy_of": self._copies.original(key)} for key in self._ids if self._copies.is_ready(key)}
        stands = {
            key: reached
            for key, payload in self._payloads.items()
            if key not in self._finished and not self._copies.original(key)
            if (reached := self._reached(self.method, payload["number"], payload["params"]))
        }
        self._obey({key: orders for key, orders in first.items() if key not in self._finished and key not in stands})
        for key in self._ids:
            if trial := self._finished.get(key):
                self._results[key] = trial.outcome
                self._end(key, trial.outcome)
            elif key in stands:
                self.pause(key, stands[key])

    def _end(self, key: str, outcome: Outcome) -> None:
        """A trial is over, which others may have waited for."""
        if self._copies.original(key):
            return
        self._obey(self._scheduler.over(key, outcome.rungs))
        copies = self._copies.over(key, outcome.status)
        self._obey({copy: {"copy_of": key} for copy in copies if copy not in self._finished})

    def _obey(self, orders: Mapping[str, Orders]) -> None:
        self.ready.extend(self._payloads[key] | order for key, order in orders.items())


def _check_same(key: str, sampled: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    if sampled == stored:
        return
    differences = ", ".join(
        f"{name}: {stored.get(name, 'nothing')} stored, {sampled.get(name, 'nothing')} sampled"
        for name in sorted(sampled.keys() | stored.keys())
        if name not in sampled or name not in stored or sampled[name] != stored[name]
    )
    raise SamplingChangedError(
        f"a resumed search must sample what it has stored, but trial {key} differs ({differences}); resume with the "
        "seed, the search section, and the versions of optuna and numpy that the run was made with, or begin a new run"
    )
