"""How far a running trial is, as a small file that anyone may read while it runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = Callable[[int, int, float], None]
"""Told outer steps done, outer steps in all, and the last outer loss."""


def silent(done: int, total: int, loss: float) -> None:
    """A report to nobody."""


class ProgressFile:
    """A report that keeps ``logs/<trial_id>.progress.json`` up to date, at most once a second.

    The file is for people only: nothing that matters is read from it, and failing to write it stops nothing.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / f"{key}.progress.json"
        self._next = 0.0
        self._started = time.monotonic()

    def __call__(self, done: int, total: int, loss: float) -> None:
        """Write the state if the last one is older than a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 1.0
        text = json.dumps(
            {"done": done, "total": total, "loss": loss, "seconds": round(now - self._started, 1), "pid": os.getpid()}
        )
        partial = self._path.with_suffix(f".{os.getpid()}")
        try:
            partial.write_text(text)
            partial.replace(self._path)
        except OSError:
            return

    def close(self) -> None:
        """Remove the file: the trial is over."""
        self._path.unlink(missing_ok=True)


def read_progress(folder: Path) -> dict[str, dict[str, Any]]:
    """Key → state of every trial that has left a progress file; unreadable files are passed over."""
    states = {}
    for path in sorted(folder.glob("*.progress.json")):
        try:
            states[path.name.removesuffix(".progress.json")] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return states
