"""Trying a search on paper: a recorded run's landscape, any number of trials and workers, a virtual clock."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jobs.peak import peak_bytes
from jobs.terminal import AS_IT_IS, console, print_json, print_table
from search.config import RunConfig, methods, stored_config
from search.config_errors import ConfigError, Problem
from search.landscape import Landscape
from search.ledger import IDLE_SECONDS_PER_WORKER
from search.legs import ReplayedLegs
from search.plan import Outcome, Unit
from search.recipes import overridden
from search.run_folder import open_run
from search.schedule import make_scheduler
from search.schema import Status
from search.search_plan import METRIC, SearchPlan, Suggester
from search.simulator import Simulator

_ROWS: Final = 10
"""How many times the state of the search is noted."""


def simulate(
    path: Path,
    overrides: Sequence[str],
    *,
    trials: int | None,
    workers: int,
    deaths_per_hour: float,
    overhead: float,
    stretch: float,
) -> dict[str, Any]:
    """Run the search of a run's configuration in virtual time, and say how it went as plain JSON values.

    Args:
        path: a run with recorded trials.
        overrides: ``a.b=c`` each, changes to its configuration.
        trials: of each method; as configured if None.
        workers: how many there are.
        deaths_per_hour: of one worker at work, on average.
        overhead: seconds that starting a trial takes the driver, one trial at a time.
        stretch: how many times longer than recorded a trial takes.

    Raises:
        RunFolderError: there is no run.
        ConfigError: an override is wrong, or the run has no trial to learn from.
        StoreError: a table of the run cannot be read.
    """
    run = open_run(path)
    stored = stored_config(run.info.config, run.path).model_dump(mode="json")
    if trials is not None:
        overrides = [*overrides, f"search.trials={trials}"]
    config = overridden(stored, overrides, f"the simulation of {path}")
    try:
        landscape = Landscape(config, run.store, stretch=stretch)
    except ValueError as error:
        raise ConfigError([Problem("", "", str(error))], str(path)) from None
    simulator = Simulator(
        ReplayedLegs(config, landscape),
        workers=workers,
        deaths_per_hour=deaths_per_hour,
        driver_seconds=overhead,
        poll_seconds=IDLE_SECONDS_PER_WORKER * workers,
        seed=config.seed,
    )
    return {
        "run": str(run.path),
        "trials": config.search.trials * len(methods(config)),
        "workers": workers,
        "recorded": landscape.recorded(),
        "landscape_error": landscape.error(),
        **_simulated(config, simulator),
    }


def _simulated(config: RunConfig, simulator: Simulator) -> dict[str, Any]:
    from search.sampling import optuna_suggesters

    before, started = peak_bytes(), time.process_time()
    clock = _AskClock()
    # The landscape has scores and no other objectives; trials of earlier runs are no part of the simulation.
    search = config.search.model_copy(update={"objectives": (METRIC,)})
    made = optuna_suggesters(search, methods=methods(config), seed=config.seed)
    plan = SearchPlan(
        {method: _Timed(suggester, clock) for method, suggester in made.items()},
        trials=config.search.trials,
        wave=config.search.wave,
        max_retries=config.search.max_retries,
        scheduler=lambda: make_scheduler(search),
    )
    due = [math.ceil(plan.total * row / _ROWS) for row in range(1, _ROWS + 1)]
    ended: Counter[Status] = Counter()
    best = 0.0
    progress: list[dict[str, Any]] = []
    improvements: list[dict[str, Any]] = []

    def watch(event: str, unit: Unit, outcome: Outcome | None) -> None:
        nonlocal best
        if outcome is None or outcome.paused:
            return
        ended[outcome.status] += 1
        if outcome.status is Status.OK and outcome.score > best:
            best = outcome.score
            improvements.append({"virtual_seconds": simulator.now, "trials": plan.done, "score": best})
        if due and plan.done >= due[0]:
            while due and plan.done >= due[0]:
                del due[0]
            row: dict[str, Any] = {"trials": plan.done, "virtual_seconds": simulator.now, "best": best}
            progress.append(row | {"ask_milliseconds": clock.milliseconds_since_last()})

    simulator.run(plan, watch)
    driver = time.process_time() - started - simulator.replay_seconds
    lost = plan.total - sum(number for status, number in ended.items() if status is not Status.KILLED)
    return {
        "makespan_seconds": simulator.makespan,
        "utilisation": simulator.utilisation,
        "deaths": simulator.deaths,
        "given_up": lost,
        "ended": {str(status): number for status, number in sorted(ended.items()) if status is not Status.KILLED},
        "best_score": best,
        "driver_cpu_seconds_per_trial": driver / plan.total,
        "ask_cpu_seconds_per_trial": clock.seconds / plan.total,
        "simulator_cpu_seconds": simulator.replay_seconds,
        "peak_megabytes": peak_bytes() / 1e6,
        "grown_megabytes": (peak_bytes() - before) / 1e6,
        "progress": progress,
        "improvements": improvements,
    }


class _AskClock:
    """Processor time spent in sampling."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asks = 0
        self._seconds_then = 0.0
        self._asks_then = 0

    def milliseconds_since_last(self) -> float | None:
        """Of one ask, on average since this was last called; None if there was none."""
        asks, seconds = self.asks - self._asks_then, self.seconds - self._seconds_then
        self._asks_then, self._seconds_then = self.asks, self.seconds
        return 1000 * seconds / asks if asks else None


class _Timed:
    """A suggester whose asks and tells are timed."""

    def __init__(self, suggester: Suggester, clock: _AskClock) -> None:
        self._suggester = suggester
        self._clock = clock

    def suggest(self, trial_id: str) -> dict[str, Any]:
        started = time.process_time()
        params = self._suggester.suggest(trial_id)
        self._clock.seconds += time.process_time() - started
        self._clock.asks += 1
        return params

    def on_trial_complete(self, trial_id: str, result: Mapping[str, float]) -> None:
        started = time.process_time()
        self._suggester.on_trial_complete(trial_id, result)
        self._clock.seconds += time.process_time() - started

    def add_evaluated_point(self, parameters: Mapping[str, Any], result: Mapping[str, float]) -> None:
        self._suggester.add_evaluated_point(parameters, result)

    @property
    def replays(self) -> bool:
        return self._suggester.replays


def show_simulation(path: Path, overrides: Sequence[str], *, as_json: bool, **options: Any) -> None:
    """Print `simulate`."""
    found = simulate(path, overrides, **options)
    if as_json:
        print_json(found)
        return
    replayed = ", ".join(f"{number} of {method}" for method, number in found["recorded"].items())
    errors = ", ".join(f"{100 * error:.1f} %" for error in found["landscape_error"].values() if error is not None)
    ended = ", ".join(f"{number} {status}" for status, number in found["ended"].items())
    busy, per_trial = found["utilisation"], found["driver_cpu_seconds_per_trial"]
    lines = [
        f"replayed   {replayed} in {found['run']}; error of each score from the others: {errors or '-'}",
        f"simulated  {found['trials']} trials on {found['workers']} workers: {ended}, {found['given_up']} given up",
        f"time       {_duration(found['makespan_seconds'])} virtual, workers busy {100 * busy:.1f} %, "
        f"{found['deaths']} deaths",
        f"driver     {1000 * per_trial:.2f} ms of processor per trial, "
        f"{1000 * found['ask_cpu_seconds_per_trial']:.2f} of it sampling; Ray and disk not counted",
        f"memory     peak {found['peak_megabytes']:.0f} MB, {found['grown_megabytes']:.0f} MB of it while simulating",
    ]
    console().print("\n".join(lines), **AS_IT_IS)
    heads = ("trials", "virtual time", "best score [%]", "one ask [ms]")
    cells = [
        (
            str(row["trials"]),
            _duration(row["virtual_seconds"]),
            f"{100 * row['best']:.2f}",
            "" if (ask := row["ask_milliseconds"]) is None else f"{ask:.2f}",
        )
        for row in found["progress"]
    ]
    print_table(heads, cells, right=heads)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"
