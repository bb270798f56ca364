"""Schedulers: which trials go on at a rung, decided from rung accuracies and the order of trials alone.

A *rung* is a step at which every trial of a method is looked at: its probe networks are trained, and their mean
validation accuracy is compared.  Nothing here depends on time, on the number of workers or on interruptions: a
scheduler hears of results in any order and decides the same.

A scheduler says what it wants of a trial as *orders*, entries of the payload of the trial's next unit:

``thresholds``
    Accuracy below which the trial stops itself, rung by rung; None where it goes on in any case.
``until``
    The rung at which the unit ends; without it the unit runs the trial to its end.
``accuracies``
    What the trial had at the rungs before.
``below``
    The trial is over at the rung ``until``, because its accuracy is below this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from search.config_tables import SearchConfig

Orders = dict[str, Any]
"""Entries for the payload of a trial's next unit."""


class Scheduler(Protocol):
    """Decides about the trials of one method, wave by wave."""

    def begin(self, trials: Sequence[str]) -> dict[str, Orders]:
        """The first orders of the trials of a new wave; every trial of the waves before is over."""
        ...

    def reached(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """A unit ended at the rung that it was to run to; gives the orders that follow, of any trial of the wave.

        When a run is resumed, a trial may have reached later rungs already than the one that is to be decided.

        Args:
            trial: one of the wave.
            accuracies: of the trial, at all rungs so far.
        """
        ...

    def over(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """A trial of the wave has ended, however it did; gives the orders that follow for others.

        Args:
            trial: one of the wave.
            accuracies: of the trial, at the rungs that it reached.
        """
        ...


class RunAll:
    """Scheduler ``none``: every trial runs to its end."""

    def begin(self, trials: Sequence[str]) -> dict[str, Orders]:
        """Nothing is asked of them."""
        return {trial: {} for trial in trials}

    def reached(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """Never called: no unit ends at a rung."""
        return {}

    def over(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """Nothing follows."""
        return {}


class Asha:
    """Scheduler ``asha``: asynchronous successive halving in its stopping variant (Li et al. 2020), by waves.

    At a rung a trial stops itself when its accuracy is below the (1 - 1/η) quantile of the accuracies at this rung of
    all trials of *earlier* waves of its method.  Ray's `AsyncHyperBandScheduler` compares with whatever other trials
    have reported by then, so that its decisions depend on how trials happen to run; that is the whole difference,
    together with this: a rung with fewer than η accuracies has no threshold, as there is no 1/η of them to keep.

    Args:
        rungs: how many there are.
        reduction: η.
    """

    def __init__(self, rungs: int, reduction: int) -> None:
        self._rungs = rungs
        self._reduction = reduction
        self._accuracies: list[list[float]] = [[] for _ in range(rungs)]

    def begin(self, trials: Sequence[str]) -> dict[str, Orders]:
        """All trials of a wave get the same thresholds."""
        thresholds = [threshold(accuracies, self._reduction) for accuracies in self._accuracies]
        return {trial: {"thresholds": thresholds} for trial in trials}

    def reached(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """Never called: no unit ends at a rung that its trial survives."""
        return {}

    def over(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """Its accuracies count for the waves to come."""
        for recorded, accuracy in zip(self._accuracies, accuracies, strict=False):
            recorded.append(accuracy)
        return {}


def threshold(accuracies: Sequence[float], reduction: int) -> float | None:
    """The (1 - 1/η) quantile, linear between two values, or None of fewer than η values."""
    if len(accuracies) < reduction:
        return None
    import numpy as np

    # In percent, as Ray asks for it: the last digit of 1 - 1/η decides between two neighbouring values.
    return float(np.percentile(accuracies, (1 - 1 / reduction) * 100))


class Halving:
    """Scheduler ``halving``: synchronous successive halving of each wave (Jamieson & Talwalkar 2016).

    All trials of a wave run to the first rung; the best 1/η of them, rounded down and at least one, go on to the
    next, and so on; the others are over.  Of equal accuracies the trial with the lower number is the better one.  A
    trial that ended before a rung, because it diverged or failed, has lost there.

    Args:
        rungs: how many there are.
        reduction: η.
    """

    def __init__(self, rungs: int, reduction: int) -> None:
        self._rungs = rungs
        self._reduction = reduction
        self._rung = 0
        self._entered: list[str] = []
        self._accuracies: dict[str, tuple[float, ...]] = {}
        self._over: set[str] = set()

    def begin(self, trials: Sequence[str]) -> dict[str, Orders]:
        """All of them run to the first rung."""
        self._rung, self._entered = 0, list(trials)
        self._accuracies, self._over = {}, set()
        return {trial: {"until": 0} for trial in trials}

    def reached(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """The last one to reach the rung decides for all."""
        self._accuracies[trial] = tuple(accuracies)
        return self._decide()

    def over(self, trial: str, accuracies: Sequence[float]) -> dict[str, Orders]:
        """The others need not wait for it any longer."""
        self._over.add(trial)
        return self.reached(trial, accuracies)

    def _decide(self) -> dict[str, Orders]:
        """Orders at every rung for which all that entered it are known."""
        orders: dict[str, Orders] = {}
        while self._rung < self._rungs and all(self._is_known(trial, self._rung) for trial in self._entered):
            at_rung = {
                trial: accuracies[self._rung]
                for trial in self._entered
                if len(accuracies := self._accuracies[trial]) > self._rung
            }
            kept = survivors(at_rung, max(1, len(self._entered) // self._reduction))
            lowest = min((at_rung[trial] for trial in kept), default=None)
            for trial in at_rung:
                if trial in self._over:
                    continue  # when a run is resumed, trials are over that were not when this was first decided
                known = {"accuracies": [*self._accuracies[trial][: self._rung + 1]]}
                if trial not in kept:
                    orders[trial] = known | {"until": self._rung, "below": lowest}
                elif self._rung + 1 == self._rungs:
                    orders[trial] = known
                elif not self._is_known(trial, self._rung + 1):
                    orders[trial] = known | {"until": self._rung + 1}
            self._entered = [trial for trial in at_rung if trial in kept]
            self._rung += 1
        return orders

    def _is_known(self, trial: str, rung: int) -> bool:
        return trial in self._over or len(self._accuracies.get(trial, ())) > rung


def survivors(accuracies: Mapping[str, float], count: int) -> set[str]:
    """The ``count`` best trials; of equal ones those that come first."""
    return set(sorted(accuracies, key=lambda trial: -accuracies[trial])[:count])


def make_scheduler(search: SearchConfig) -> Scheduler:
    """The scheduler that a configuration names, for the trials of one method."""
    match search.scheduler:
        case "asha":
            return Asha(search.rungs, search.reduction)
        case "halving":
            return Halving(search.rungs, search.reduction)
        case _:
            return RunAll()
