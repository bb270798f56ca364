"""A replay that obeys a scheduler: of a trial as it would have been, the part that a unit's payload asks for.

It stands between `search.landscape`, which knows whole trials, and `search.simulator`, as `search.leg` and
`search.recorder` stand between a trial and its worker.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from search.config import RunConfig, methods, planned_steps, rung_steps
from search.landscape import Point, Replayed
from search.leg import Leg
from search.plan import Outcome, Unit
from search.schema import Status
from search.simulator import Replay


class ReplayedLegs:
    """Ends the trials of another replay at rungs, as `search.schedule` orders it.

    What a trial is at a rung is interpolated linearly, in accuracy and in time, between the recorded steps of its
    curve.  Where the search has other numbers of steps than the recorded run, a rung lies at the same share of them.
    A trial that diverges does so before its first rung, after all of its time.
    """

    def __init__(self, config: RunConfig, whole: Replay) -> None:
        """Put the rungs of a search on another replay.

        Args:
            config: of the search.
            whole: how trials go that nothing stops.
        """
        self._whole = whole
        # The last row of a gradient trial is that of the set after all updates, and that of evolution its last
        # generation; see `search.recorder`.
        last = {"gradient": planned_steps(config, "gradient"), "evolution": planned_steps(config, "evolution") - 1}
        self._shares = {
            method: tuple(step / max(1, last[method]) for step in rung_steps(config, method))
            for method in methods(config)
        }

    def __call__(self, unit: Unit) -> Replayed:
        """How the part of a trial goes that the unit asks for."""
        whole = self._whole(unit)
        shares = self._shares[unit.payload["method"]]
        if not shares or whole.outcome.status is not Status.OK:
            return whole
        rungs = _at(whole, shares)
        accuracies = tuple(point.accuracy for point in rungs)
        known = len(unit.payload.get("accuracies", ()))
        begun = rungs[known - 1].seconds if known else 0.0
        leg = Leg(None, unit.payload.get("until"), tuple(unit.payload.get("thresholds", ())))
        for rung in range(max(0, known - 1), len(rungs)):
            if leg.ends_at(rung, accuracies[rung]):
                reached = accuracies[: rung + 1]
                paused = rung == leg.until and "below" not in unit.payload
                status = Status.OK if paused else Status.PRUNED
                outcome = Outcome(status, reached[-1], f"at rung {rung + 1}", reached, paused)
                return Replayed(rungs[rung].seconds - begun, outcome)
        return replace(whole, seconds=whole.seconds - begun, outcome=replace(whole.outcome, rungs=accuracies))


def _at(whole: Replayed, shares: tuple[float, ...]) -> list[Point]:
    """What the trial is at shares of its steps."""
    steps = [share * whole.curve[-1].step for share in shares]
    known = [point.step for point in whole.curve]
    seconds = np.interp(steps, known, [point.seconds for point in whole.curve])
    accuracies = np.interp(steps, known, [point.accuracy for point in whole.curve])
    return [Point(round(step), float(s), float(a)) for step, s, a in zip(steps, seconds, accuracies, strict=True)]
