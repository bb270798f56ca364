"""The data of a run, as a number that changes with any of its bits."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from ldnn_core.tasks import TASKS, DataError, TaskData, cache_folder

if TYPE_CHECKING:
    from search.config_tasks import TaskConfig


def data_checksum(data: TaskData) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all rows of a task, with their types and shapes."""
    digest = hashlib.sha256()
    for name, rows in (("train", data.train), ("val", data.val), ("test", data.test)):
        for part, tensor in (("x", rows.x), ("y", rows.y)):
            digest.update(f"{name}.{part} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def task_checksum(config: TaskConfig) -> str:
    """The checksum of the data that a configuration names, which is loaded for it, once in a process.

    Raises:
        DataError: the data cannot be had.
    """
    return data_checksum(TASKS[config.name](**config.settings).load(cache_folder()))


def require_same_data(task: str, found: str, checksum: str | None) -> None:
    """Refuse data that a run was not made with.

    Args:
        task: name of the task, for the words.
        found: checksum of its data here.
        checksum: that of the run; None for a run of which none is known.

    Raises:
        DataError: they differ.
    """
    if checksum not in (None, found):
        raise DataError(
            f"the data of task {task} must be those that the run was made with (checksum {checksum}), but here they "
            f"have {found}: put the data back, remove the cache {cache_folder()} if they are generated, or begin a new "
            "run with `ldnn fork`"
        )
