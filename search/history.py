"""What a sampler learns from: the trials so far, of which a long search forgets some, as points of the space of now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from search.search_plan import METRIC, Suggester, number_of

_BEST: Final = 10
"""One in so many of the history's limit is kept for being among the best."""


class Stage(NamedTuple):
    """The space that trials are sampled from, from one of them on; it begins with a wave."""

    first: int
    """Number of its first trial."""
    make: Callable[[], Suggester]
    """Makes what samples from it, which knows no trial of this run."""
    point: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """The parameters of an earlier trial as a point of it."""


class History:
    """A suggester that learns from at most `limit` trials, however many there have been, and whose space may grow.

    What a sampler of Optuna spends on one trial grows with the trials that it knows, and so does its memory.  So
    when `limit` trials have been told, half of them are forgotten: a tenth of the limit stays for the best scores,
    whatever other objectives there are, the rest for being the most recent.  The sampler is then made anew and told
    what stayed.  For TPE of one objective that changes little: beyond 250 trials it calls the best 25 good and all
    others bad, and among these the recent ones weigh most (`optuna.samplers.TPESampler`, defaults for gamma and
    weights).  The good ones are the same with and without a limit; of the bad ones fewer are seen.  Where a stage
    begins it is made anew as well, and told all that is known as if it had been found in the new space.

    Both depend on the order of tells and the numbers of trials alone.  All that was suggested must be told before
    anything is suggested with these results known, as `search.search_plan.SearchPlan` does it with its waves.

    Args:
        stages: in the order of their first trials, of which the first is 0.
        limit: most trials that it may know when it suggests, at least 2.
    """

    replays: Final = False

    def __init__(self, stages: Sequence[Stage], *, limit: int) -> None:
        self._stages = deque(stages)
        self._limit = limit
        self._known: list[tuple[Mapping[str, Any], Mapping[str, float]]] = []
        self._suggester: Suggester | None = None
        """None when it is to be made anew."""
        self._running: dict[str, Mapping[str, Any]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Sample parameters for the next trial."""
        while len(self._stages) > 1 and self._stages[1].first <= number_of(trial_id):
            self._stages.popleft()
            self._suggester = None
        if self._suggester is None:
            self._suggester = self._stages[0].make()
            for known, result in self._known:
                self._suggester.add_evaluated_point(self._stages[0].point(known), result)
        self._running[trial_id] = parameters = self._suggester.suggest(trial_id)
        return parameters

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Learn how good a trial was."""
        if self._suggester is not None:
            self._suggester.on_trial_complete(trial_id, result)
        self._learn(self._running.pop(trial_id), result)

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        """Learn of a trial that was sampled and finished before."""
        self._suggester = None  # it may be a trial of the next stage
        self._learn(parameters, result)

    def _learn(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        self._known.append((parameters, result))
        if len(self._known) >= self._limit:
            kept = _worth_keeping([result[METRIC] for _, result in self._known], self._limit // 2, self._limit // _BEST)
            self._known = [self._known[place] for place in kept]
            self._suggester = None


def _worth_keeping(values: list[float], count: int, best: int) -> list[int]:
    """The places of the `best` highest values, earlier ones first among equals, and of the last of the others."""
    highest = sorted(range(len(values)), key=lambda place: -values[place])[:best]
    others = sorted(set(range(len(values))) - set(highest))
    return sorted([*highest, *others[len(others) - (count - len(highest)) :]])
