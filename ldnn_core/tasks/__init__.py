"""Tasks, by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ldnn_core.tasks._base import DataError, Rows, Task, TaskData, split_rows
from ldnn_core.tasks.mnist1d import Mnist1d

TASKS: Final[dict[str, type[Task]]] = {"mnist1d": Mnist1d}
"""Every task that a recipe may name."""


def cache_folder() -> Path:
    """Where generated data is kept: ``$LDNN_CACHE``, or ``ldnn`` in the user's cache folder."""
    named = os.environ.get("LDNN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ldnn"


__all__ = ["TASKS", "DataError", "Mnist1d", "Rows", "Task", "TaskData", "cache_folder", "split_rows"]
