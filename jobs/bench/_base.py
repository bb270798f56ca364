"""What a benchmark reports, and how times are taken."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ldnn_core.accelerator import prepare
from search.provenance import library_versions

THREADS: Final = 1
"""CPU threads of every benchmark."""

REPEATS: Final = 3
"""How often each action is timed; the best counts, because other work on the machine can only slow it down."""

MOST_IN_A_TURN = 10
"""How often a fast action is timed while a slow one is timed once."""

GROWTH_NETWORKS: Final = (1, 8, 32, 128)
GROWTH_WIDTHS: Final = (20, 50, 100, 200, 400, 800)

Size = dict[str, Any]
"""One measured size: what ran (``who``), T, N, width, seconds, and what else there is to say."""


class DisagreementError(Exception):
    """A reference does not compute what the engine computes, so that times of the two cannot be compared."""


@dataclass(frozen=True)
class Conditions:
    """How benchmarks are run.

    Attributes:
        device: where, ``cpu`` or ``cuda``.
        quick: small sizes that only show that everything works; the figures cannot be compared with anything.
    """

    device: str = "cpu"
    quick: bool = False

    @staticmethod
    def on(device: str, *, quick: bool) -> Conditions:
        """Conditions for ``cpu``, ``cuda`` or ``auto``, which prefers CUDA.

        Raises:
            ValueError: another name, or CUDA where there is none.
        """
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"a device must be one of auto, cpu, cuda, but got {device!r}")
        available = torch.cuda.is_available()
        if device == "cuda" and not available:
            raise ValueError("there is no CUDA device here: use --device cpu or --device auto")
        place = "cuda" if device == "cuda" or (device == "auto" and available) else "cpu"
        prepare(place)
        return Conditions(place, quick)


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        id: its name in the table of targets.
        what: the figure in words.
        value: what was measured.
        target: what it should reach; None for a figure that only informs.
        at_least: whether a higher value is better and must be at least the target, else at most.
        unit: of value and target.
        sizes: the measurements it was made from and its growth.
        check: the numbers in which engine and reference were found to agree, as relative errors.
        conditions: how it was measured.
    """

    id: str
    what: str
    value: float
    target: float | None
    unit: str
    sizes: tuple[Size, ...]
    conditions: Conditions
    at_least: bool = False
    check: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none and for a quick run, which cannot say."""
        if self.conditions.quick or self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def record(self) -> dict[str, Any]:
        """The figure for programs."""
        return {
            "id": self.id,
            "what": self.what,
            "value": self.value,
            "target": self.target,
            "better": "higher" if self.at_least else "lower",
            "met": self.met,
            "comparable": not self.conditions.quick,
            "unit": self.unit,
            "sizes": list(self.sizes),
            "check": dict(self.check),
            "device": device_name(self.conditions.device),
            "threads": THREADS,
            "versions": library_versions(),
        }


def device_name(device: str) -> str:
    """The device in words, e.g. ``cpu: Intel(R) Xeon(R) Processor``."""
    if device == "cuda":
        return f"cuda: {torch.cuda.get_device_name()}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"cpu: {model}"


@contextmanager
def one_thread() -> Iterator[None]:
    """`THREADS` CPU threads for torch, as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds_of(device: str, *actions: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """The best time of each action, taken alternately (A B A B) so that drift of the machine hits all.

    Each action runs once untimed first: kernels are compiled, caches filled.  In each turn an action is repeated, up
    to `MOST_IN_A_TURN` times, for about as long as the slowest takes once: a busy moment of the machine is then as
    long for a fast action as for a slow one, and the best of it as meaningful.
    """
    warm = [_seconds(device, action) for action in actions]
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, first, taken in zip(actions, warm, times, strict=True):
            count = min(MOST_IN_A_TURN, max(1, round(max(warm) / first)))
            taken += [_seconds(device, action) for _ in range(count)]
    return [min(taken) for taken in times]


def _seconds(device: str, action: Callable[[], object]) -> float:
    wait_for(device)
    started = time.perf_counter()
    action()
    wait_for(device)
    return time.perf_counter() - started


def in_fresh_process(code: str, *arguments: object) -> Any:
    """What a program says last, as JSON, in a process of its own.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a measuring process failed, with {', '.join(command[3:])}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def agree(what: str, ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> float:
    """The relative error of ours, Euclidean norm.

    Raises:
        DisagreementError: it is above the tolerance or not finite.
    """
    exact = reference.detach().double().cpu()
    error = float((ours.detach().double().cpu() - exact).norm() / exact.norm())
    if not error <= tolerance:
        raise DisagreementError(f"{what}: the relative error to the reference must be <= {tolerance}, but is {error}")
    return error


def wait_for(device: str) -> None:
    """Wait until a device has done what it was asked for, before a clock is read."""
    if device == "cuda":
        torch.cuda.synchronize()
