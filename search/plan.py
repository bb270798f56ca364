"""What is to be done, in pieces that can be run anywhere: units, plans, outcomes, and a runner without Ray.

A *unit* is the smallest thing that is scheduled, retried and skipped on resume: one trial of a search, or one
batch of evaluations.  A *plan* hands out units and learns how they ended; it decides everything that must not
depend on timing.  A *runner* (this module's `run_here`, or `search.tune.run_with_ray`) only executes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from search.limits import Deadline, is_out_of_memory, watched
from search.schema import OBJECTIVES, Status
from search.store import LONGEST_KEY

PENALTY: Final = 0.0
"""The score of whatever did not end well: an accuracy that no working set has, and finite, as samplers need it."""


@dataclass(frozen=True)
class Unit:
    """One piece of work, described so that any process can do it.

    Attributes:
        key: unique within the run, e.g. ``gradient-0003``; names the files that the unit publishes.
        attempt: 0 for the first try; a retry or a resume counts on.
        payload: JSON-able description of the work.
    """

    key: str
    attempt: int = 0
    payload: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, payload: Mapping[str, Any]) -> Unit:
        """A unit whose key tells it from those of the same name with another payload; a long name is cut off."""
        digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        key = f"{name}-{digest[:8]}"
        if len(key) > LONGEST_KEY:  # labels of tasks and names of regimes may have 40 characters each
            key = f"{name[: LONGEST_KEY - 17]}-{digest[:16]}"
        return cls(key, 0, payload)


@dataclass(frozen=True)
class Outcome:
    """How a unit ended; always finite, always with a status.

    Attributes:
        score: what the sampler maximises: of a trial that was pruned its accuracy at the last rung, and a finite
            penalty unless the status is ok or pruned.
        note: one line for people: the error, or what was found.
        rungs: validation accuracies of a trial at the rungs of its scheduler that it has reached.
        paused: whether the unit was a part of a trial, at whose end the plan decides how it goes on.
        values: further objectives of a trial by their names, as far as they were measured.
    """

    status: Status
    score: float
    note: str = ""
    rungs: tuple[float, ...] = ()
    paused: bool = False
    values: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_row(cls, trial: Mapping[str, Any]) -> Outcome:
        """How a trial ended, as its row of ``trials`` says it."""
        status, rungs = Status(trial["status"]), tuple(trial.get("rung_accuracies") or ())
        if status is Status.PRUNED and rungs:
            note = f"validation accuracy {100 * rungs[-1]:.1f} % at rung {len(rungs)}"
            return cls(status, rungs[-1], note, rungs)
        score = trial.get("score")
        note = trial.get("error") or f"score {100 * (score or 0):.1f} %"
        values = {name: float(trial[name]) for name in OBJECTIVES if name != "score" and trial.get(name) is not None}
        return cls(status, PENALTY if score is None else float(score), note, rungs, values=values)


class Plan(Protocol):
    """Hands out units and learns their outcomes.

    One thread calls it.  What `next_unit` returns may depend on outcomes, but not on the order or the time in
    which they arrived: a plan makes the same units whatever the number of workers.
    """

    @property
    def total(self) -> int:
        """How many units there are in all, those already done included."""
        ...

    @property
    def done(self) -> int:
        """How many units need no further work: already there before, or finished since."""
        ...

    def next_unit(self) -> Unit | None:
        """The next unit to start; None when none can start before another one finishes, or none is left."""
        ...

    def finish(self, unit: Unit, outcome: Outcome) -> None:
        """Record how a unit ended.  A unit whose process died may be handed out again with the next attempt."""
        ...


Work = Callable[[Unit], Outcome]
"""Does a unit, publishes its rows, and returns its outcome.  Must be importable by name for Ray."""

Watch = Callable[[str, Unit, Outcome | None], None]
"""Told ("started", unit, None) and ("finished", unit, outcome); must not raise."""


class ListPlan:
    """A plan of units that are known beforehand and independent of each other."""

    def __init__(self, units: Iterable[Unit], *, already_done: int = 0, max_retries: int = 2) -> None:
        self._waiting = deque(units)
        self._already_done = already_done
        self._total = len(self._waiting) + already_done
        self._finished = 0
        self._max_retries = max_retries

    @property
    def total(self) -> int:
        """Units in all, those done before included."""
        return self._total

    @property
    def done(self) -> int:
        """Units that need no further work."""
        return self._already_done + self._finished

    def next_unit(self) -> Unit | None:
        """The next unit in the given order, or None."""
        return self._waiting.popleft() if self._waiting else None

    def finish(self, unit: Unit, outcome: Outcome) -> None:
        """Count the unit as done; hand it out again if its process died or was ended, and tries are left."""
        if outcome.status in (Status.KILLED, Status.TIMEOUT) and unit.attempt < self._max_retries:
            self._waiting.append(Unit(unit.key, unit.attempt + 1, unit.payload))
        else:
            self._finished += 1


def attempt(work: Work, unit: Unit) -> Outcome:
    """Do a unit; whatever goes wrong in it becomes an outcome, so that no unit can end a run."""
    try:
        outcome = work(unit)
        if not isinstance(outcome, Outcome):
            raise TypeError(f"work must return an Outcome, but returned {type(outcome).__name__}")
        if not math.isfinite(outcome.score):
            raise ValueError(f"the score of an outcome must be finite, but got {outcome.score}")
        if not all(map(math.isfinite, outcome.values.values())):
            raise ValueError(f"the values of an outcome must be finite, but got {dict(outcome.values)}")
    except Exception as error:
        return Outcome(Status.OOM if is_out_of_memory(error) else Status.FAILED, PENALTY, one_line(error))
    return outcome


def one_line(error: BaseException) -> str:
    """The class and words of an error on one line, of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


Deadlines = Callable[[Unit], Deadline | None]
"""Says when to give up on a unit; None to wait for ever."""


def no_deadline(unit: Unit) -> None:
    """Of no unit."""


OnDisk = Callable[[Unit], Outcome | None]
"""Says how a unit ended as far as the disk knows; None if it does not."""


def not_on_disk(unit: Unit) -> None:
    """Of no unit."""


def run_here(
    plan: Plan,
    work: Work,
    watch: Watch,
    *,
    stop: Callable[[], bool] | None = None,
    deadline: Deadlines = no_deadline,
    hung: Callable[[Unit, Outcome], None] = lambda unit, outcome: None,
) -> None:
    """Run a plan's units one after another in this process: for debugging, tests, and machines without Ray.

    Args:
        plan: what to do.
        work: how to do a unit.
        watch: told when a unit starts and when it ends.
        stop: asked before each unit; when it says true, no further unit is started.
        deadline: of each unit.
        hung: called in another thread when a unit is past it, with what is to be said of the unit; it is expected to
            end the process, as nothing else can end the unit.
    """
    while not (stop and stop()) and (unit := plan.next_unit()) is not None:
        watch("started", unit, None)
        with watched(deadline(unit), partial(_tell, hung, unit)):
            outcome = attempt(work, unit)
        plan.finish(unit, outcome)
        watch("finished", unit, outcome)


def _tell(hung: Callable[[Unit, Outcome], None], unit: Unit, words: str) -> None:
    hung(unit, Outcome(Status.TIMEOUT, PENALTY, words))


class ChainPlan:
    """A plan, and one that can only be made when it has ended; units of the two never run together.

    Args:
        first: what comes first.
        second: makes what comes then; called once, as soon as the first has nothing left.
        expected: how many units the second will have, for people, until it is known.
    """

    def __init__(self, first: Plan, second: Callable[[], Plan], *, expected: int) -> None:
        self._first = first
        self._make_second = second
        self._second = second() if first.done >= first.total else None
        self._expected = expected

    @property
    def total(self) -> int:
        """Units of both."""
        return self._first.total + (self._expected if self._second is None else self._second.total)

    @property
    def done(self) -> int:
        """Units of both that need no further work."""
        return self._first.done + (0 if self._second is None else self._second.done)

    def next_unit(self) -> Unit | None:
        """The next unit of the first plan and, once that has ended, of the second."""
        if self._first.done < self._first.total:
            return self._first.next_unit()
        if self._second is None:
            self._second = self._make_second()
        return self._second.next_unit()

    def finish(self, unit: Unit, outcome: Outcome) -> None:
        """Hand an outcome to the plan whose unit it was."""
        (self._first if self._second is None else self._second).finish(unit, outcome)
