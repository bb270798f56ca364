"""Tasks, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from ldnn_core.tasks._base import DataError, Rows, Task, TaskData, split_rows
from ldnn_core.tasks.cifar10 import Cifar10
from ldnn_core.tasks.digits import Digits
from ldnn_core.tasks.from_file import FromFile
from ldnn_core.tasks.idx import FASHION_FOLDER, IdxImages
from ldnn_core.tasks.mnist1d import Mnist1d
from ldnn_core.tasks.van_der_pol import VanDerPol

TASKS: Final[dict[str, Callable[..., Task]]] = {
    "mnist1d": Mnist1d,
    "van_der_pol": VanDerPol,
    "digits": Digits,
    "fashion_mnist": partial(IdxImages, name="fashion_mnist", path=FASHION_FOLDER),
    "mnist": partial(IdxImages, name="mnist"),
    "cifar10": Cifar10,
    "file": FromFile,
}
"""Every task that a recipe may name, made of its settings; those that are not given have their defaults."""


def cache_folder() -> Path:
    """Where generated data is kept: ``$LDNN_CACHE``, or ``ldnn`` in the user's cache folder."""
    named = os.environ.get("LDNN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ldnn"


__all__ = [
    "TASKS",
    "Cifar10",
    "DataError",
    "Digits",
    "FromFile",
    "IdxImages",
    "Mnist1d",
    "Rows",
    "Task",
    "TaskData",
    "VanDerPol",
    "cache_folder",
    "split_rows",
]
