"""A suggester whose space grows at certain trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from search.search_plan import Suggester

Stage = tuple[int, Callable[[], Suggester], Callable[[Mapping[str, Any]], Mapping[str, Any]]]
"""The number of its first trial; makes its suggester; turns the parameters of an earlier trial into a point of its
space."""


class WideningSpace:
    """Samples the first trials of a method from one space, and those that follow from wider ones.

    Where a stage begins, its suggester is made and told of all trials so far, as points of its own space, as if they
    had been found in it.  That happens in the order of the trials' numbers, whether they were run just now or stored
    long ago, so that a resumed search samples what an undisturbed one does.  A stage must begin with a wave.

    Args:
        stages: in the order of their first trials, of which the first is 0.
    """

    replays: Final = False

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = list(stages)
        self._told: list[tuple[Mapping[str, Any], Mapping[str, float]]] = []
        self._running: dict[str, Mapping[str, Any]] = {}
        _, make, self._point = self._stages.pop(0)
        self._suggester = make()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Sample parameters for the next trial."""
        self._reach(int(trial_id.rpartition("-")[2]))
        parameters = self._suggester.suggest(trial_id)
        self._running[trial_id] = parameters or {}
        return parameters

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Learn how good a trial was."""
        self._suggester.on_trial_complete(trial_id, result)
        self._told.append((self._running.pop(trial_id), result))

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        """Learn of a trial that was sampled and finished before."""
        self._reach(len(self._told))
        self._suggester.add_evaluated_point(self._point(parameters), result)
        self._told.append((parameters, result))

    def _reach(self, number: int) -> None:
        while self._stages and self._stages[0][0] <= number:
            _, make, self._point = self._stages.pop(0)
            self._suggester = make()
            for parameters, result in self._told:
                self._suggester.add_evaluated_point(self._point(parameters), result)
