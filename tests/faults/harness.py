"""Runs that are hurt on purpose, and what of their rows was lost, doubled or changed by it."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.schema import UNIQUE_KEYS
from tests.small_runs import WHEN_AND_WHERE

TABLES = ("trials", "steps", "activations", "evaluations")

LONG_RUN: dict[str, Any] = {
    "search": {"trials": 12, "wave": 4, "startup_trials": 4, "max_retries": 20},
    "gradient": {"outer_steps": 12},
    "evolution": {"generations": 25},
    "evaluation": {"best": 1, "widths": [6, 10], "usual": ["relu"]},
    "resources": {"checkpoint_seconds": 0.05},
}
"""Laid over `tests.small_runs.TINY`: 24 trials of a fraction of a second, and sets to judge at two widths."""


@dataclass(frozen=True)
class Damage:
    """Rows of a run that was hurt, held against those of one that never was.

    Attributes:
        lost: keys that the other has and this has not; rows of keys that only this has count here too.
        doubled: further rows of a key.
        changed: rows with a number or word that is not the other's.
    """

    lost: int = 0
    doubled: int = 0
    changed: int = 0

    def __add__(self, other: Damage) -> Damage:
        return Damage(self.lost + other.lost, self.doubled + other.doubled, self.changed + other.changed)


def damage(run: Path, undisturbed: Path) -> Damage:
    """What the faults have done to a run that has ended; attempts whose process was killed are no rows of their own."""
    total = Damage()
    for table in TABLES:
        found, expected = _rows(run / table, table), _rows(undisturbed / table, table)
        repeated = found.index.duplicated()
        once = found[~repeated]
        both = once.index.intersection(expected.index)
        unlike = _unlike(once.loc[both], expected.loc[both])
        total += Damage(len(once.index.symmetric_difference(expected.index)), int(repeated.sum()), unlike)
    return total


def _rows(folder: Path, table: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder)
    if table == "trials":
        frame = frame[frame["status"] != "killed"]
    keys = [key for key in UNIQUE_KEYS[table] if key != "attempt"]
    kept = [name for name in frame.columns if name not in WHEN_AND_WHERE]
    # A key may hold null: as text every key is equal to itself.
    frame = frame[kept].set_index(pd.MultiIndex.from_frame(frame[keys].astype(str)))
    return frame.sort_index()


def _unlike(one: pd.DataFrame, other: pd.DataFrame) -> int:
    unlike = np.zeros(len(one), dtype=bool)
    for name in one.columns:
        mine, theirs = one[name].tolist(), other[name].tolist()
        unlike |= [not _same(a, b) for a, b in zip(mine, theirs, strict=True)]
    return int(unlike.sum())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return one is other or bool(one == other) or (pd.isna(one) is True and pd.isna(other) is True)


def tell(record: Callable[[str, object], None], injections: int, harm: Damage) -> None:
    """Leave for the table of faults what a test has done and found."""
    record("injections", injections)
    for name in ("lost", "doubled", "changed"):
        record(name, getattr(harm, name))


def chance_of_this_run() -> tuple[random.Random, str]:
    """Other moments every time; the words name the seed that repeats them (``LDNN_FAULTS_SEED``)."""
    seed = int(os.environ.get("LDNN_FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
    return random.Random(seed), f"LDNN_FAULTS_SEED={seed}"


def done(run: Path) -> dict[Path, bytes]:
    """Parts whose rows have been reported as done, with their bytes."""
    found = {}
    for path in [*run.glob("trials/*.parquet"), *run.glob("evaluations/*.parquet")]:
        found[path] = path.read_bytes()
    return found


def still_there(before: Mapping[Path, bytes]) -> bool:
    """Whether these files are as they were."""
    return all(path.is_file() and path.read_bytes() == data for path, data in before.items())


def state_of(pid: int) -> str:
    """The letter by which the kernel tells how a process is; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@contextmanager
def temporary_folder_of_their_own(environment: Callable[[str, str], None]) -> Iterator[Path]:
    """Where the drivers of a test put Ray's folders; what they leave running is ended at the end."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment("TMPDIR", folder)
        try:
            yield Path(folder)
        finally:
            for pid in started_in(folder):
                os.kill(pid, signal.SIGKILL)


def started_in(folder: str) -> set[int]:
    """Living processes that were started with this folder for temporary files."""
    found = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"\0TMPDIR={folder}\0".encode() in b"\0" + environ.read_bytes() + b"\0":
                found.add(int(environ.parent.name))
        except OSError:
            continue
    return {pid for pid in found if state_of(pid) not in ("", "Z", "X")}
