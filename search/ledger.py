"""The ledger of a distributed run: which unit each of Tune's trials is, and which of them only wait.

It knows nothing of Ray, so that it can be tested without one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from search.plan import PENALTY, Deadlines, OnDisk, Outcome, Plan, Unit, Watch, no_deadline, not_on_disk
from search.schema import Status
from search.search_plan import METRIC

IDLE: Final = ""
"""In place of a unit: the trial keeps its actor for a unit that cannot start yet."""

IDLE_SECONDS_PER_WORKER: Final = 0.05
"""An idle trial asks again after this time for each worker, so that all of them together ask 20 times a second."""


LONGEST_WAIT: Final = 15.0
"""Seconds that a unit may wait for a process, several times what starting one takes, before an idle one is given up."""


_NO_MEMORY: Final = ("OutOfMemoryError", "running low on memory")
"""Words in what Ray says of a process that was killed because the node had no memory left."""


class Ledger:
    """What is running: joins the plan, which knows units, with Tune, which knows trials.

    The plan and the watch may raise, although they should not.  Then the error is kept, what is running ends and
    publishes, and the caller gets the error itself instead of Tune's account of it.

    Args:
        plan: what to do.
        watch: told when a unit starts and when it ends.
        stop: once it says true, no further unit is handed out.
        deadline: of each unit.
        clock: seconds.
        on_disk: how a unit ended whose process died, if it was done and on disk just before.
    """

    def __init__(
        self,
        plan: Plan,
        watch: Watch,
        stop: Callable[[], bool] | None,
        deadline: Deadlines = no_deadline,
        clock: Callable[[], float] = time.monotonic,
        on_disk: OnDisk = not_on_disk,
    ) -> None:
        self.error: Exception | None = None
        self._plan = plan
        self._watch = watch
        self._stop = stop
        self._units: dict[str, Unit] = {}
        self._idle: set[str] = set()
        self._next: Unit | None = None
        self._deaths: dict[str, tuple[Status, str]] = {}
        self._deadline = deadline
        self._on_disk = on_disk
        self._clock = clock
        self._started: dict[str, float] = {}
        self._waiting: dict[str, float] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher for a restore that never comes; plans and watches need not be picklable.
        return (object, ())

    def over(self) -> bool:
        """Whether no unit will be handed out any more."""
        return not self._ready() and (self._stopping() or not self._units)

    def hand_out(self, tune_id: str) -> str | None:
        """The next unit as text; or the word to idle, when units will come later; or None."""
        if self._ready() and (unit := self._next) is not None:
            self._next = None
            self._units[tune_id] = unit
            self._waiting[tune_id] = self._clock()
            return json.dumps({"key": unit.key, "attempt": unit.attempt, "payload": unit.payload})
        if self._later() > len(self._idle):
            self._idle.add(tune_id)
            return IDLE
        return None

    def idles_on(self, tune_id: str) -> bool:
        """Whether an idle trial shall keep its actor waiting.

        Where a node was lost there may be too few places for the idle trial and the unit that it waits for.
        """
        if any(self._clock() - since > LONGEST_WAIT for since in self._waiting.values()):
            return False
        return not self._ready() and self._later() >= len(self._idle)

    def started(self, tune_id: str) -> None:
        """A worker takes up what was handed out."""
        if unit := self._units.get(tune_id):
            self._waiting.pop(tune_id, None)
            self._started[tune_id] = self._clock()
            self._guarded(self._watch, "started", unit, None)

    def died(self, tune_id: str, cause: str) -> None:
        """Note why a trial is about to end without a result; what was noted first stands."""
        no_memory = any(word in cause for word in _NO_MEMORY)
        self._deaths.setdefault(tune_id, (Status.OOM if no_memory else Status.KILLED, cause))

    def overdue(self) -> list[str]:
        """Trials that are past their deadlines, each told once."""
        found = []
        for tune_id, started in self._started.items():
            seconds, deadline = self._clock() - started, self._deadline(self._units[tune_id])
            if deadline is not None and seconds > deadline.seconds and tune_id not in self._deaths:
                self._deaths[tune_id] = Status.TIMEOUT, deadline.passed(seconds)
                found.append(tune_id)
        return found

    def ended(self, tune_id: str, result: Mapping[str, Any] | None) -> None:
        """Tell the plan how a unit ended; no result means that its process died."""
        self._idle.discard(tune_id)
        self._started.pop(tune_id, None)
        self._waiting.pop(tune_id, None)
        status, cause = self._deaths.pop(tune_id, (Status.KILLED, "its process died"))
        if (unit := self._units.pop(tune_id, None)) is None:
            return
        known = _outcome(result) if result else self._guarded(self._on_disk, unit)
        outcome = known or Outcome(status, PENALTY, cause)
        if self.error is None:
            self._guarded(self._plan.finish, unit, outcome)
        self._guarded(self._watch, "finished", unit, outcome)

    def _later(self) -> int:
        """Units that wait for running ones to end."""
        return 0 if self._stopping() else self._plan.total - self._plan.done - len(self._units)

    def _ready(self) -> bool:
        if self._stopping():
            return False
        if self._next is None:
            self._next = self._guarded(self._plan.next_unit)
        return self._next is not None

    def _stopping(self) -> bool:
        return self.error is not None or bool(self._stop and self._guarded(self._stop))

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            self.error = self.error or error
            return None


def _outcome(result: Mapping[str, Any]) -> Outcome:
    rungs, paused = tuple(result.get("rungs", ())), bool(result.get("paused"))
    values = json.loads(result.get("values", "{}"))
    return Outcome(Status(result["status"]), float(result[METRIC]), str(result["note"]), rungs, paused, values)
