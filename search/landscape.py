"""What a trial would have been like, read off the trials that a run has recorded: no training, no files, no clock.

A search is tried without its work by asking this module instead of a worker.  The answer is a function of the
sampled parameters, so that a sampler has something to learn: the *landscape* of the recorded run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from search.attempts import counted
from search.config import RunConfig, methods
from search.config_space import SAMPLED_INTO, Range, sampled_keys
from search.plan import PENALTY, Outcome, Unit
from search.schema import Status
from search.store import Store

Reals = NDArray[np.float64]

_TRIAL_COLUMNS: Final = (
    *("trial_id", "attempt", "method", "status", "score", "score_sem", "wall_seconds", "config", "copied_from"),
)
_STEP_COLUMNS: Final = ("trial_id", "attempt", "step", "val_accuracy", "wall_seconds")


@dataclass(frozen=True)
class Point:
    """A recorded step of a replayed trial.

    Attributes:
        step: outer step or generation.
        seconds: from the start of the trial.
        accuracy: validation accuracy (0..1) of the probe networks, residual included.
    """

    step: int
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Replayed:
    """A trial as it would have been.

    Attributes:
        seconds: how long it would have run.
        outcome: how it would have ended.
        curve: its recorded steps in their order; a rule that stops a trial early decides by them.
    """

    seconds: float
    outcome: Outcome
    curve: tuple[Point, ...] = ()


class Landscape:
    """Scores, durations and validation accuracies as functions of the sampled parameters, one set for each method.

    A trial's place is its parameters scaled to 0..1 over the search space, logarithms where the space has them; two
    different choices are 1 apart, whatever they are.  Between recorded trials that ended well everything is Shepard
    interpolated (Shepard 1968): their mean with weights distance^-(n + 1) for n parameters, which passes through
    each of them and is flat beside it.  A trial diverges where the nearest recorded one did, after its time.

    To the score a residual is added, normal with the interpolated standard error of the recorded scores, and to
    each recorded step one that is larger by the square root of how many more networks a score has than a probe.
    It depends on the run's seed and the trial's name alone.  What it lacks is the difference that another seed makes
    to the search itself, and whatever the space between recorded trials hides: the error of predicting each of
    them from the others (`error`) says how much that is.
    """

    def __init__(self, config: RunConfig, store: Store, *, stretch: float = 1.0) -> None:
        """Read a recorded run.

        Args:
            config: of the search that is to be tried; its search space need not be that of the recorded run.
            store: of the recorded run; its trials should have run to their ends.
            stretch: how many times longer than recorded everything takes, as for larger networks or more steps.

        Raises:
            ValueError: a method has no recorded trial that ended well, or the stretch is not above 0 and finite.
            StoreError: a table cannot be read.
        """
        if not 0 < stretch < math.inf:
            raise ValueError(f"0 < stretch must hold, and be finite, but got {stretch}")
        self._stretch = stretch
        trials = store.read("trials", columns=_TRIAL_COLUMNS).to_pylist()
        steps: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in store.read("steps", columns=_STEP_COLUMNS).to_pylist():
            steps.setdefault((row["trial_id"], row["attempt"]), []).append(row)
        self._seed = config.seed
        self._probe_factor = math.sqrt(config.search.score_networks / config.search.probe_networks)
        self._of = {
            method: _Recorded(config, method, [row for row in trials if row["method"] == method], steps)
            for method in methods(config)
        }

    def __call__(self, unit: Unit) -> Replayed:
        """How a trial would have gone.  The same for every attempt at it.

        Raises:
            KeyError: the unit is no trial of a recorded method.
        """
        recorded = self._of[unit.payload["method"]]
        score, sem, seconds, curve, diverges = recorded.at(unit.payload["params"])
        seconds *= self._stretch
        if diverges:
            return Replayed(seconds, Outcome(Status.DIVERGED, PENALTY, "the nearest recorded trial diverged"))
        residuals = _generator(self._seed, unit.key, "residual").standard_normal(1 + len(curve)) * sem
        score = _accuracy(score + residuals[0])
        points = tuple(
            Point(int(step), seconds * share, _accuracy(accuracy + self._probe_factor * residual))
            for (step, share, accuracy), residual in zip(curve, residuals[1:], strict=True)
        )
        return Replayed(seconds, Outcome(Status.OK, score, f"score {100 * score:.1f} %"), points)

    def recorded(self) -> dict[str, int]:
        """Method → recorded trials that it is made from."""
        return {method: len(recorded) for method, recorded in self._of.items()}

    def error(self) -> dict[str, float | None]:
        """Method → root mean square error of each recorded score predicted from the others; None for a single one."""
        return {method: recorded.error() for method, recorded in self._of.items()}


class _Recorded:
    """The recorded trials of one method as points with values."""

    def __init__(
        self,
        config: RunConfig,
        method: str,
        trials: Sequence[Mapping[str, Any]],
        steps: Mapping[tuple[str, int], list[dict[str, Any]]],
    ) -> None:
        self._axes = {key: config.search.space[key] for key in sampled_keys(method) if key in config.search.space}
        # A copy has taken no time and has no steps; what it says, its original says too.
        run = [row for row in counted(trials) if row["copied_from"] is None]
        well = [row for row in run if row["status"] == Status.OK]
        ill = [row for row in run if row["status"] == Status.DIVERGED]
        if not well:
            raise ValueError(
                f"a recorded run must have a trial of {method} that ended well, but it has {len(trials)} of which none "
                "did; simulate a run that has, or one method with --set method=..."
            )
        self._places = np.array([self._place(_sampled(row)) for row in (*well, *ill)]).reshape(len(well + ill), -1)
        self._well = len(well)
        self._ill_seconds = [float(row["wall_seconds"]) for row in ill]
        columns = ("score", "score_sem", "wall_seconds")
        ends = [[float(row[name] or 0.0) for name in columns] for row in well]
        self._steps, curves = _common_curve([steps.get((row["trial_id"], row["attempt"]), []) for row in well])
        self._values = np.hstack([np.array(ends), curves])
        """Trials that ended well × (score, its standard error, seconds, share of time at each step, accuracy there)."""

    def __len__(self) -> int:
        return len(self._places)

    def at(self, params: Mapping[str, Any]) -> tuple[float, float, float, list[tuple[int, float, float]], bool]:
        """Score, its standard error, seconds, (step, share of time, accuracy) of each step, whether it diverges."""
        squares = ((self._places - self._place(params)) ** 2).sum(axis=1)
        nearest = int(squares.argmin())
        if nearest >= self._well:
            return PENALTY, 0.0, self._ill_seconds[nearest - self._well], [], True
        values = _weights(squares[: self._well], len(self._axes)) @ self._values
        score, sem, seconds = (float(value) for value in values[:3])
        shares, accuracies = np.split(values[3:], 2)
        return score, sem, seconds, list(zip(self._steps, shares.tolist(), accuracies.tolist(), strict=True)), False

    def error(self) -> float | None:
        if self._well < 2:
            return None
        misses = []
        for one in range(self._well):
            others = np.arange(self._well) != one
            squares = ((self._places[: self._well][others] - self._places[one]) ** 2).sum(axis=1)
            misses.append(_weights(squares, len(self._axes)) @ self._values[others, 0] - self._values[one, 0])
        return float(np.sqrt(np.mean(np.square(misses))))

    def _place(self, params: Mapping[str, Any]) -> list[float]:
        place: list[float] = []
        for key, axis in self._axes.items():
            value = params[key]
            if isinstance(axis, Range):
                low, high, value = (math.log(v) if axis.log else float(v) for v in (axis.low, axis.high, value))
                place.append((value - low) / (high - low))
            else:
                # Of two choices one coordinate each differs by 1/√2, so that they are 1 apart.
                place += [math.sqrt(0.5) * (value == choice) for choice in axis.choices]
        return place


def _sampled(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all fields that can be sampled, as a recorded trial had them, sampled or not."""
    config = json.loads(row["config"])
    sections = {key: (config.get(section) or {}, field) for key, (section, field) in SAMPLED_INTO.items()}
    return {key: section[field] for key, (section, field) in sections.items() if field in section}


def _common_curve(trials: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[int], Reals]:
    """The steps at which all trials have an accuracy, and for each trial its shares of time, then accuracies."""
    curves = [{row["step"]: row for row in rows if row["val_accuracy"] is not None} for rows in trials]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    # The clock of a step stands still while probes are trained; so its moments are shares of that clock's time.
    lasts = [max((row["wall_seconds"] for row in rows), default=1.0) or 1.0 for rows in trials]
    shares = [[curve[step]["wall_seconds"] / last for step in steps] for curve, last in zip(curves, lasts, strict=True)]
    accuracies = [[curve[step]["val_accuracy"] for step in steps] for curve in curves]
    return steps, np.hstack([np.array(shares), np.array(accuracies)]).reshape(len(trials), -1)


def _weights(squares: Reals, dimensions: int) -> Reals:
    """Shepard's weights from squared distances; where a distance is 0, all weight is on the points there."""
    at = squares == 0
    raw = at.astype(float) if at.any() else (squares / squares.min()) ** (-(dimensions + 1) / 2)
    weights: Reals = raw / raw.sum()
    return weights


def _accuracy(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)


def _generator(seed: int, *words: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(str(word) for word in (seed, *words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
