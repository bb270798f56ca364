"""What Ray Tune costs beyond the work it hands out (P5), and what a second worker brings (P5b).

Units are trainings of a batch of networks, which fill one core; each says how long it worked.  The time between the
ends of two units of one worker, less the second one's work, is what the trial cost beyond its work.  A worker's first
unit, in which it imports, compiles and loads, and what comes after the first worker has nothing left, do not count;
starting Ray is told beside the figures.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from jobs.bench._base import Conditions, Result, Size, in_fresh_process, one_thread
from jobs.bench.work import canonical
from search.plan import ListPlan, Outcome, Unit
from search.schema import Status

UNITS, NETWORKS, ROUNDS = 12, 32, 4
"""Units of each worker; networks of a unit, 100 inner steps each, trained so many times: some two seconds."""

EMPTY = (8, 32, 128)
"""Numbers of further units that do nothing, for the growth."""

_ALONE = """
import sys
from jobs.bench.tune import seconds_alone
print(seconds_alone(*sys.argv[1:2], *map(int, sys.argv[2:])))
"""


@dataclass
class Session:
    """One Ray, some workers, and when each unit ended.

    Attributes:
        started: when Ray was asked for, seconds.
        ends: worker → (end, seconds of work) of its units in order.
    """

    started: float
    ends: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def watch(self, event: str, unit: Unit, outcome: Outcome | None) -> None:
        """Keep the time of an end."""
        if outcome is not None:
            if outcome.status is not Status.OK:
                raise RuntimeError(f"{unit.key} ended as {outcome.status}: {outcome.note}")
            self.ends[outcome.note].append((time.perf_counter(), outcome.score))

    @property
    def first_end(self) -> float:
        """Seconds until the first unit had ended."""
        return min(ends[0][0] for ends in self.ends.values()) - self.started

    def cycles(self) -> list[list[tuple[float, float]]]:
        """For each worker, (time between two ends, work of the second) while all workers had units."""
        over = min(ends[-1][0] for ends in self.ends.values())
        return [
            [(later - sooner, work) for (sooner, _), (later, work) in pairwise(ends) if later <= over]
            for ends in self.ends.values()
        ]

    def throughput(self) -> float:
        """Units per second of all workers together."""
        return sum(len(cycles) / sum(cycle for cycle, _ in cycles) for cycles in self.cycles() if cycles)


def measure_tune(conditions: Conditions) -> list[Result]:
    """P5 with one worker and its growth over the number of trials; P5b with two."""
    quick = conditions.quick
    units, networks, rounds = (3, 2, 1) if quick else (UNITS, NETWORKS, ROUNDS)
    empty = (2, 4) if quick else EMPTY
    one = _session(conditions, 1, [rounds] * units + [0] * sum(empty), networks)
    [cycles] = one.cycles()
    costs = [cycle - work for cycle, work in cycles]
    busy, idle = cycles[: units - 1], costs[units - 1 :]
    seconds = statistics.fmean(work for _, work in busy)
    sizes: list[Size] = [_cost("training", costs[: units - 1], 1, seconds) | {"until_first_end": one.first_end}]
    for count in empty:
        sizes.append(_cost("nothing to do", idle[:count], 1, 0.0))
        idle = idle[count:]
    two = _session(conditions, 2, [rounds] * 2 * units, networks)
    alone = len(busy) / sum(cycle for cycle, _ in busy)
    gain = two.throughput() / alone
    rates: list[Size] = [
        {"who": "Ray Tune, 1 worker", "units": len(busy), "units_per_second": alone, "ratio": 1.0},
        {"who": "Ray Tune, 2 workers", "units": 2 * units, "units_per_second": two.throughput(), "ratio": gain},
    ]
    if not quick:
        control = _without_ray(conditions, units // 2, networks, rounds)
        rates.append({"who": "2 processes without Ray ÷ 1", "units": units, "ratio": control})
    cost = "a Ray Tune trial beyond its work, actors used again: median"
    value = float(sizes[0]["cost"])
    return [
        Result("P5", cost, value, 0.5, "s", tuple(sizes), conditions),
        Result("P5b", "throughput: two workers ÷ one", gain, 1.8, "ratio", tuple(rates), conditions, at_least=True),
    ]


def train_unit(unit: Unit, *, device: str, networks: int) -> Outcome:
    """Train networks as often as the payload says; the score is the seconds it took, the note the process."""
    started = time.perf_counter()
    _train(device, networks, unit.payload["rounds"])
    return Outcome(Status.OK, time.perf_counter() - started, str(os.getpid()))


def seconds_alone(device: str, units: int, networks: int, rounds: int) -> float:
    """Seconds of a unit in this process on one thread, as workers have it; the mean of several after a first one."""
    with one_thread():
        _train(device, networks, 1)
        started = time.perf_counter()
        for _ in range(units):
            _train(device, networks, rounds)
        return (time.perf_counter() - started) / units


def _train(device: str, networks: int, rounds: int) -> None:
    if rounds:
        work = canonical(device, networks=networks)
        for _ in range(rounds):
            work.train_mixed()


def _session(conditions: Conditions, workers: int, rounds: list[int], networks: int) -> Session:
    from search.tune import run_with_ray

    units = [Unit(f"unit-{i}", payload={"rounds": count}) for i, count in enumerate(rounds)]
    session = Session(time.perf_counter())
    run_with_ray(
        ListPlan(units),
        "jobs.bench.tune:train_unit",
        workers=workers,
        threads=1,
        work_args={"device": conditions.device, "networks": networks},
        gpus_per_unit=0.0 if conditions.device == "cpu" else 1 / workers,
        watch=session.watch,
    )
    return session


def _cost(who: str, costs: list[float], workers: int, seconds: float) -> Size:
    taken = {"cost": statistics.median(costs), "mean": statistics.fmean(costs), "most": max(costs)}
    return {"who": who, "workers": workers, "trials": len(costs), "work": seconds} | taken


def _without_ray(conditions: Conditions, units: int, networks: int, rounds: int) -> float:
    """The same ratio for plain processes: what the machine itself gives."""

    def seconds() -> float:
        return float(in_fresh_process(_ALONE, conditions.device, units, networks, rounds))

    alone = seconds()
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(seconds) for _ in range(2)]
    return sum(alone / each.result() for each in both)
