"""What a sampler is told about trials: a finite number for every objective, also where a trial has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from search.plan import PENALTY, Outcome
from search.schema import OBJECTIVES, Status

_WORST_KNOWN: Final = {"score": PENALTY, "cross_size_drop": 1.0, "num_params": 1e9, "flatness": 1e9}
"""What is told of a trial that did not end well, as long as none has."""


class Teller:
    """Turns results into what a sampler can use; results must come in the order of their trials, wave by wave.

    The score of a trial that was pruned is its accuracy at the last rung, measured on networks trained for fewer steps
    than those of other scores.  That of a trial that did not end well is the penalty, which is below every other.  In
    the other objectives it is as bad as the worst trial so far: bad enough never to be in the Pareto set, and not so
    bad that the differences of the good ones drown in it.  So it is with a value that a good trial lacks.

    Args:
        objectives: names in `search.schema.OBJECTIVES`.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives = tuple(objectives)
        self._worst: dict[str, float] = {}

    def told(self, wave: Sequence[Outcome]) -> list[dict[str, float]]:
        """Objective → value for every trial of the next wave."""
        for result in wave:
            if result.status is Status.OK:
                for name in self._objectives:
                    if (value := _measured(name, result)) is not None:
                        self._worst[name] = _worse(name, self._worst.get(name, value), value)
        return [{name: self._value(name, result) for name in self._objectives} for result in wave]

    def _value(self, name: str, result: Outcome) -> float:
        value = _measured(name, result)
        is_known = result.status is Status.OK or (result.status is Status.PRUNED and name == "score")
        if is_known and value is not None:
            return float(value)
        # Nor the number of parameters of a failed trial, which is stored: being small is no merit of it.
        return PENALTY if name == "score" else self._worst.get(name, _WORST_KNOWN[name])


def _measured(name: str, outcome: Outcome) -> float | None:
    return outcome.score if name == "score" else outcome.values.get(name)


def _worse(name: str, one: float, other: float) -> float:
    return min(one, other) if OBJECTIVES[name] == "max" else max(one, other)
