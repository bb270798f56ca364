"""What a sampler learns from when a search is long: the best trials, the recent ones, and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from search.search_plan import METRIC, Suggester

_BEST: Final = 10
"""One in so many of the history's limit is kept for being among the best."""


class BoundedHistory:
    """A suggester that learns from at most `limit` trials, however many there have been.

    What a sampler of Optuna spends on one trial grows with the trials that it knows, and so does its memory.  So
    when `limit` trials have been told, half of them are forgotten: a tenth of the limit stays for the best scores,
    whatever other objectives there are, the rest for being the most recent.  The sampler is then made anew and told
    what stayed.  For TPE of one objective that changes little: beyond 250 trials it calls the best 25 good and all
    others bad, and among these the recent ones weigh most (`optuna.samplers.TPESampler`, defaults for gamma and
    weights).  The good ones are the same with and without a limit; of the bad ones fewer are seen.

    What is forgotten depends on the order of tells alone.  All that was suggested must be told before anything is
    suggested with these results known, as `search.search_plan.SearchPlan` does it with its waves.
    """

    replays: Final = False

    def __init__(self, make: Callable[[int], Suggester], *, limit: int) -> None:
        """Begin with no history.

        Args:
            make: makes the suggester that does the work; it is given the number of trials that it will not be told
                of, so that it can number its trials like one that knows all.
            limit: most trials that it may know when it suggests.

        Raises:
            ValueError: the limit is below 2.
        """
        if limit < 2:
            raise ValueError(f"limit >= 2 must hold, but got {limit}")
        self._make = make
        self._limit = limit
        self._known: list[tuple[Mapping[str, Any], Mapping[str, float]]] = []
        self._forgotten = 0
        self._suggester: Suggester | None = make(0)
        """None when it knows what has been forgotten since."""
        self._running: dict[str, Mapping[str, Any]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Sample parameters for the next trial."""
        if self._suggester is None:
            self._suggester = self._make(self._forgotten)
            for known, result in self._known:
                self._suggester.add_evaluated_point(known, result)
        parameters = self._suggester.suggest(trial_id)
        self._running[trial_id] = parameters or {}
        return parameters

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Learn how good a trial was."""
        if self._suggester is not None:
            self._suggester.on_trial_complete(trial_id, result)
        self._learn(self._running.pop(trial_id), result)

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        """Learn of a trial that was sampled and finished before."""
        if self._suggester is not None:
            self._suggester.add_evaluated_point(parameters, result)
        self._learn(parameters, result)

    def _learn(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        self._known.append((parameters, result))
        if len(self._known) >= self._limit:
            kept = _worth_keeping([result[METRIC] for _, result in self._known], self._limit // 2, self._limit // _BEST)
            self._forgotten += len(self._known) - len(kept)
            self._known = [self._known[place] for place in kept]
            self._suggester = None


def _worth_keeping(values: list[float], count: int, best: int) -> list[int]:
    """The places of the `best` highest values, earlier ones first among equals, and of the last of the others."""
    highest = sorted(range(len(values)), key=lambda place: -values[place])[:best]
    others = sorted(set(range(len(values))) - set(highest))
    return sorted([*highest, *others[len(others) - (count - len(highest)) :]])
