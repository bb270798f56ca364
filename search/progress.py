"""How far a running trial is, as a small file that anyone may read while it runs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from search.location import Location
from search.provenance import hostname, is_alive

_SUFFIX: Final = ".progress.json"
_KEYS: Final = frozenset({"done", "total", "loss", "seconds", "host", "pid"})
"""What a state has."""

Report = Callable[[int, int, float], None]
"""Told outer steps done, outer steps in all, and the last outer loss."""


def silent(done: int, total: int, loss: float) -> None:
    """A report to nobody."""


def progress_folder(run: Location) -> Path:
    """Where the progress of a run's trials is: its logs.

    For a run in an object store, which is no place for a small file a second, a folder of this machine's cache: there
    only trials that run on this machine are seen.
    """
    if isinstance(run, Path):
        return run / "logs"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("LDNN_CACHE") or Path(cache) / "ldnn") / "progress"
    folder /= hashlib.sha256(str(run).encode()).hexdigest()[:16]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class ProgressFile:
    """A report that keeps ``logs/<trial_id>.progress.json`` up to date, at most once a second.

    The file is for people only: nothing that matters is read from it, and failing to write it stops nothing.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / f"{key}{_SUFFIX}"
        self._next = 0.0
        self._started = time.monotonic()

    def __call__(self, done: int, total: int, loss: float) -> None:
        """Write the state if the last one is older than a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 1.0
        state = {"done": done, "total": total, "loss": loss, "seconds": round(now - self._started, 1)}
        partial = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            partial.write_text(json.dumps(state | {"host": hostname(), "pid": os.getpid()}))
            partial.replace(self._path)

    def close(self) -> None:
        """Remove the file: the trial is over."""
        with suppress(OSError):
            self._path.unlink()


def read_progress(folder: Path) -> dict[str, dict[str, Any]]:
    """Key → state of every trial that runs now, as far as can be told.

    A process that was killed leaves its file behind: that of a dead process of this machine is passed over, and so
    is a file that cannot be read.
    """
    states = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            state = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if (
            isinstance(state, dict)
            and state.keys() >= _KEYS
            and (state["host"] != hostname() or is_alive(state["pid"]))
        ):
            states[path.name.removesuffix(_SUFFIX)] = state
    return states


def clear_progress(folder: Path) -> None:
    """Remove what killed processes have left; for the driver, while no worker of the run is alive."""
    with suppress(OSError):
        for path in folder.glob("*.progress.*"):
            path.unlink()
