"""Peak memory of an outer step as the horizon grows (P2).

Each horizon is measured in a fresh process, so that nothing of another one is left in the allocator:  the process
makes an outer step of 5 inner steps, by which everything is imported, compiled and cached; sets the kernel's mark of
its peak resident memory back to what is resident now (Linux: 5 written to /proc/self/clear_refs; where that cannot
be done the mark of the whole life of the process stands); makes the inputs and the outer step; and reads the mark.
The figure is the slope of the peaks over T by least squares, in megabytes of 10⁶ bytes: it holds all that grows with
T, the list of rows included, and nothing that does not.  On CUDA the peak is that of torch's allocator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from jobs.bench._base import REPEATS, Conditions, Result, Size, in_fresh_process, one_thread
from jobs.bench.references import plain_outer_step
from jobs.bench.work import EXACT, canonical, contenders
from jobs.peak import peak_bytes

LIMIT_STEPS, LIMIT_MEGABYTES = 2000, 2000.0
"""The long horizon and what it may take in all."""

_WORKER = """
import json, sys
from jobs.bench.memory import measure_here
device, who, *numbers = sys.argv[1:]
print(json.dumps(measure_here(device, who, *map(int, numbers))))
"""


def measure_memory(conditions: Conditions) -> list[Result]:
    """P2: the slope; P2-2000: the peak at the long horizon; with the plain program's growth beside it."""
    quick, width = conditions.quick, 10 if conditions.quick else 100
    horizons = (10, 40) if quick else (100, 200, 500, 1000)
    ours = [_fresh(conditions.device, "ours", steps, width) for steps in horizons]
    plain = [] if quick else [_fresh(conditions.device, "plain", steps, width) for steps in (10, 20, 40)]
    long = ours[-1] if quick else _fresh(conditions.device, "ours", LIMIT_STEPS, width)
    slopes = {"who": "slope", "ours_mb_per_step": _slope(ours)} | (
        {"plain_mb_per_step": _slope(plain)} if plain else {}
    )
    peak = f"peak memory of an outer step in all, T = {long['T']}, one network"
    added = "peak memory added per inner step of an outer step, one network"
    return [
        Result("P2", added, _slope(ours), 0.2, "MB", (*ours, *plain, slopes), conditions),
        Result("P2-2000", peak, long["peak_mb"], LIMIT_MEGABYTES, "MB", (*ours, long), conditions),
    ]


def growth_of_estimator(device: str, who: str, steps: int, width: int, length: int) -> Size:
    """Peak memory of an outer step with an estimator at T, and what is added per inner step up to ten times T."""
    short, long = (in_fresh_process(_WORKER, device, who, t, width, length) for t in (steps, 10 * steps))
    return {"peak_mb": short["peak_mb"], "mb_per_inner_step": _slope([short, long])}


def _slope(sizes: list[Size]) -> float:
    return float(np.polyfit([size["T"] for size in sizes], [size["peak_mb"] for size in sizes], 1)[0])


def _fresh(device: str, who: str, steps: int, width: int) -> Size:
    """The least of what `measure_here` finds in several processes of their own, and the most beside it.

    The same work takes up to a quarter more in some processes than in others: the C library's heap keeps holes between
    the states that are kept, where activations were.  The most is reported too, so that the spread is seen.
    """
    sizes: list[Size] = [in_fresh_process(_WORKER, device, who, steps, width) for _ in range(REPEATS)]
    least = min(sizes, key=lambda size: float(size["peak_mb"]))
    return {**least, "most_mb": max(float(size["peak_mb"]) for size in sizes)}


def measure_here(device: str, who: str, steps: int, width: int, length: int = 20) -> Size:
    """The peak memory of this process during an outer step.

    Args:
        device: where.
        who: ``ours``, which is unrolled, the ``plain`` program, or an estimator by its name in `contenders`.
        steps: T.
        width: H.
        length: inner steps of a piece, for estimators that have pieces.
    """

    def outer_step(steps: int) -> None:
        work = canonical(device, steps=steps, width=width)
        if who == "plain":
            plain_outer_step(work)
        else:
            work.outer_step(EXACT if who == "ours" else contenders(length)[who], seed=0)

    with one_thread():
        outer_step(5)
        how = _forget_peak(device)
        outer_step(steps)
    return {"who": who, "T": steps, "N": 1, "width": width, "peak_mb": _peak(device) / 1e6, "peak_of": how}


def _forget_peak(device: str) -> str:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return "allocator, outer step"
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return "process, whole life"
    return "process, outer step"


def _peak(device: str) -> float:
    return float(torch.cuda.max_memory_allocated()) if device == "cuda" else peak_bytes()
