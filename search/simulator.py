"""A runner on a virtual clock: any number of workers, and no work.

Beside `search.plan.run_here` and `search.tune.run_with_ray` this is the third way to run a plan.  The plan, what
samples for it, and the ledger that joins it with Tune are the real ones; the workers, their deaths and the time that
passes are made up, and nothing is published.  So a search of 100 000 trials on 1000 workers is tried in minutes.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from typing import Any, Final

from search.landscape import Replayed
from search.ledger import IDLE, Ledger
from search.plan import PENALTY, Plan, Unit, Watch
from search.search_plan import METRIC

RESTART_SECONDS: Final = 3.0
"""What a new process takes to start: about that of a Tune trial without reused actors."""

Replay = Callable[[Unit], Replayed]
"""Does a unit's work on paper.  `search.landscape.Landscape` is one, of whole trials; `search.legs.ReplayedLegs` is
another around it, which ends them at the rungs of a scheduler."""


class Simulator:
    """Plays Tune and its workers to one plan.

    A worker takes a unit, is busy for as long as the replay says, and reports.  The driver starts units one after
    another and may take time for each.  A worker that finds nothing to do asks again at intervals, like the actors
    that idle between waves.  A worker at work lives for an exponentially distributed time; when it dies, the plan is
    told so, and another one stands in after `RESTART_SECONDS`.

    Attributes:
        now: virtual seconds since the start; while the watch is told of something, the moment of that.
        makespan: the moment at which the last unit ended so far.
        busy: virtual seconds that workers spent on units, also on those that they died of.
        deaths: workers that died.
        replay_seconds: processor seconds of this process that went into the replay, which no real driver spends.
    """

    def __init__(
        self,
        replay: Replay,
        *,
        workers: int,
        deaths_per_hour: float = 0.0,
        driver_seconds: float = 0.0,
        poll_seconds: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Set up workers.

        Args:
            replay: how long a unit takes, and how it ends.
            workers: how many there are.
            deaths_per_hour: of one worker at work, on average; in virtual time.
            driver_seconds: what starting a unit takes the driver, which does one at a time; in virtual time.
            poll_seconds: how often an idle worker asks for work; 0 means that it is told at once.
            seed: of the deaths.

        Raises:
            ValueError: a number is out of its range.
        """
        times = {"deaths_per_hour": deaths_per_hour, "driver_seconds": driver_seconds, "poll_seconds": poll_seconds}
        if workers < 1 or not all(0 <= value < math.inf for value in times.values()):
            raise ValueError(
                f"workers >= 1 and finite {', '.join(times)} >= 0 must hold, but got (workers={workers}, "
                f"{', '.join(f'{name}={value}' for name, value in times.items())})"
            )
        self.now = 0.0
        self.makespan = 0.0
        self.busy = 0.0
        self.deaths = 0
        self.replay_seconds = 0.0
        self._replay = replay
        self._workers = workers
        self._death_rate = deaths_per_hour / 3600
        self._driver_seconds = driver_seconds
        self._poll_seconds = poll_seconds
        self._seed = seed
        self._free = workers
        self._driver_free = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._idle: deque[str] = deque()
        """Idle workers that are told at once."""

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was spent on units."""
        return self.busy / (self._workers * self.makespan) if self.makespan else 0.0

    def run(self, plan: Plan, watch: Watch) -> None:
        """Run the plan's units in virtual time; call it once.

        Args:
            plan: what to do.
            watch: told when a unit is handed out and when it ends.

        Raises:
            Exception: what the plan or the watch raised.
        """
        ledger = Ledger(plan, watch, None)
        self._hand_out(ledger)
        while self._events:
            self.now, _, happen, arguments = heapq.heappop(self._events)
            happen(ledger, *arguments)
            self._hand_out(ledger)
        if ledger.error is not None:
            raise ledger.error

    def _hand_out(self, ledger: Ledger) -> None:
        """Give free workers, and idle ones that are told at once, what there is for them."""
        while not ledger.over():
            if not self._free and self._idle and not ledger.idles_on(self._idle[0]):
                self._rise(ledger, self._idle.popleft())
            if not self._free:
                return
            name = f"worker-{next(self._order)}"
            if (text := ledger.hand_out(name)) is None:
                return
            self._free -= 1
            if text != IDLE:
                self._start(ledger, name, Unit(**json.loads(text)))
            elif self._poll_seconds:
                self._later(self.now + self._poll_seconds, self._ask, name)
            else:
                self._idle.append(name)

    def _start(self, ledger: Ledger, name: str, unit: Unit) -> None:
        self._driver_free = max(self._driver_free, self.now) + self._driver_seconds
        ledger.started(name)
        before = time.process_time()
        replayed = self._replay(unit)
        self.replay_seconds += time.process_time() - before
        life = self._life(unit)
        if life < replayed.seconds:
            self._later(self._driver_free + life, self._die, name, life)
        else:
            self._later(self._driver_free + replayed.seconds, self._end, name, replayed)

    def _end(self, ledger: Ledger, name: str, replayed: Replayed) -> None:
        self.busy += replayed.seconds
        self.makespan = self.now  # idle workers may still ask when the last unit has ended
        self._free += 1
        # As Tune brings it: numbers and texts.
        values = json.dumps(dict(replayed.outcome.values))
        ledger.ended(name, {**asdict(replayed.outcome), METRIC: replayed.outcome.score, "values": values})

    def _die(self, ledger: Ledger, name: str, seconds: float) -> None:
        self.busy += seconds
        self.makespan = self.now
        self.deaths += 1
        self._later(self.now + RESTART_SECONDS, self._replace)
        ledger.died(name, "its process died: simulated")
        ledger.ended(name, None)

    def _replace(self, ledger: Ledger) -> None:
        self._free += 1

    def _ask(self, ledger: Ledger, name: str) -> None:
        if ledger.idles_on(name):
            self._later(self.now + self._poll_seconds, self._ask, name)
        else:
            self._rise(ledger, name)

    def _rise(self, ledger: Ledger, name: str) -> None:
        """End the idling of a worker, as Tune ends the trial that keeps its actor."""
        self._free += 1
        ledger.ended(name, {METRIC: PENALTY})

    def _later(self, moment: float, happen: Callable[..., None], *arguments: Any) -> None:
        # What happens at the same moment happens in the order in which it was begun.
        heapq.heappush(self._events, (moment, next(self._order), happen, arguments))

    def _life(self, unit: Unit) -> float:
        """How long the worker lives that takes this attempt at this unit."""
        if not self._death_rate:
            return math.inf
        digest = hashlib.sha256(f"{self._seed}/{unit.key}/{unit.attempt}/death".encode()).digest()
        share = (int.from_bytes(digest[:8], "big") + 1) / 2**64
        return -math.log(share) / self._death_rate
