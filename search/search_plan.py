"""The plan of a search: which trials there are, in which waves they are sampled, and how a search goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from search.objectives import Result, Teller
from search.plan import Outcome, Unit
from search.schema import Status

METRIC: Final = "score"
"""Name under which samplers and Tune are told how good a trial is."""


class Suggester(Protocol):
    """What samples the parameters of one method's trials: `search.sampling.OptunaSuggester`, or like it."""

    @property
    def replays(self) -> bool:
        """Whether a wave that is finished must be sampled again to be learnt from, as it was when it was new."""
        ...

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Sample parameters for the next trial."""
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


@dataclass(frozen=True)
class Finished:
    """A trial that will not be run again, as the results store knows it.

    Attributes:
        params: what the sampler chose.
        score: as stored; None unless the status is ok.
        status: how the trial's last attempt ended.
        values: further objectives by their names, as far as they were measured.
    """

    params: Mapping[str, Any]
    score: float | None
    status: Status
    values: Mapping[str, float | None] = field(default_factory=dict)


class SamplingChangedError(ValueError):
    """A resumed search samples other parameters than those it has stored."""


def trial_id(method: str, number: int) -> str:
    """The name of a trial, e.g. ``gradient-0003``."""
    return f"{method}-{number:04d}"


class SearchPlan:
    """The trials of a search, several methods interleaved.

    Trial n of a method belongs to wave n // wave.  The trials of a wave are all sampled, in order of their
    numbers, once every earlier wave of the method has ended; their results are told to the sampler in the same
    order once the last of them is there.  So what is sampled depends on seed, number and results alone: not on
    the number of workers, nor on the order in which trials end, nor on interruptions.
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
        self._total = len(ids)
        self._done = len(finished)
        self._attempts = dict(attempts or {})
        self._max_retries = max_retries
        self._tries: dict[str, int] = {}
        self._retries: deque[Unit] = deque()
        self._running: dict[str, Unit] = {}
        self._turns = deque(
            _Sequence(method, suggester, trials, wave, finished, Teller(objectives))
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
            self._tries[unit.key] = self._tries.get(unit.key, 0) + 1
        return unit

    def finish(self, unit: Unit, outcome: Outcome) -> None:
        """Record how a trial ended; after the last of its wave, sample the next wave.

        Raises:
            ValueError: the unit is not one that is running.
            SamplingChangedError: the next wave is partly stored, and sampled otherwise now.
        """
        if self._running.pop(unit.key, None) != unit:
            raise ValueError(f"only a running unit can finish, but {unit.key} attempt {unit.attempt} is not running")
        if outcome.status is Status.KILLED and self._tries[unit.key] <= self._max_retries:
            self._retries.append(Unit(unit.key, unit.attempt + 1, unit.payload))
            return
        self._done += 1
        result = Result(outcome.status, {**outcome.values, METRIC: outcome.score})
        self._sequences[unit.payload["method"]].settle(unit.key, result)

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
    ) -> None:
        self.method = method
        self.ready: deque[dict[str, Any]] = deque()
        """Payloads of the current wave's trials that have not been handed out."""
        self._suggester = suggester
        self._trials = trials
        self._wave = wave
        self._finished = finished
        self._teller = teller
        self._first = 0
        self._ids: list[str] = []
        self._results: dict[str, Result] = {}
        self._begin()

    def settle(self, key: str, result: Result) -> None:
        """Keep a result back until its wave is complete; then tell all of it and begin the next wave."""
        self._results[key] = result
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
                told = self._teller.told([_result(trial) for trial in stored])
                for trial, values in zip(stored, told, strict=True):
                    self._suggester.add_evaluated_point(trial.params, values)
                self._first = numbers.stop
                continue
            self._results = {}
            self._sample(numbers)
            if not is_whole:
                return
            self._tell()
        self._ids, self._results = [], {}

    def _sample(self, numbers: range) -> None:
        for key, number in zip(self._ids, numbers, strict=True):
            params = self._suggester.suggest(key) or {}
            trial = self._finished.get(key)
            if trial is None:
                self.ready.append({"kind": "trial", "method": self.method, "number": number, "params": params})
            else:
                _check_same(key, params, trial.params)
                self._results[key] = _result(trial)


def _result(trial: Finished) -> Result:
    return Result(trial.status, {**trial.values, METRIC: trial.score})


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
