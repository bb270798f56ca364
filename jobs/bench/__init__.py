"""Benchmarks: figures of the engine against honest references, with targets and with their growth.

Every benchmark is a function from `Conditions` to `Result` records; a reference is first checked to compute the same
numbers as the engine, then timed alternately with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from jobs.bench._base import Conditions, DisagreementError, Result, one_thread
from jobs.bench.curvature import measure_of_curvature
from jobs.bench.estimators import measure_estimators
from jobs.bench.evolution import measure_evolution
from jobs.bench.memory import measure_memory
from jobs.bench.meta_step import measure_meta_step
from jobs.bench.population import measure_population
from jobs.bench.regimes import measure_regimes
from jobs.bench.store import measure_store
from jobs.bench.tune import measure_tune

BENCHMARKS: Final[dict[str, Callable[[Conditions], list[Result]]]] = {
    "meta-step": measure_meta_step,
    "population": measure_population,
    "memory": measure_memory,
    "estimators": measure_estimators,
    "evolution": measure_evolution,
    "tune": measure_tune,
    "store": measure_store,
    "curvature": measure_of_curvature,
    "regimes": measure_regimes,
}
"""By the name that a person types."""


def run_benchmarks(names: Sequence[str], conditions: Conditions) -> list[Result]:
    """The records of the named benchmarks, of all when none is named.

    Raises:
        ValueError: an unknown name.
        DisagreementError: a reference does not compute what the engine computes; nothing was timed against it.
    """
    check_names(names)
    with one_thread():
        return [result for name in names or BENCHMARKS for result in BENCHMARKS[name](conditions)]


def check_names(names: Sequence[str]) -> None:
    """Whether all are benchmarks.

    Raises:
        ValueError: one is not.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise ValueError(f"a benchmark must be one of {', '.join(BENCHMARKS)}, but got {', '.join(unknown)}")


__all__ = ["BENCHMARKS", "Conditions", "DisagreementError", "Result", "check_names", "run_benchmarks"]
