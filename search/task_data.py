"""The data of a run before it starts: is it there, is it enough, is it still what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ldnn_core.tasks import TASKS, Cifar10, DataError, FromFile, IdxImages, cache_folder
from search.config import RunConfig
from search.config_errors import ConfigError, Problem, problems_of
from search.config_keys import shown
from search.config_tasks import TaskConfig

_GENERATED: Final = ("mnist1d", "van_der_pol")
"""Tasks whose data is made by the first worker that needs it, and whose rows are known without it."""


def with_data(config: RunConfig, source: str = "the configuration") -> RunConfig:
    """The configuration with its data found: paths absolute, checksums filled in, enough rows for its batches.

    Workers change their folder, so that a relative path means something here alone.

    Args:
        config: of a run that is to be made, or of one that is to go on.
        source: what it is, for the words.

    Raises:
        ConfigError: data is missing, damaged, not that of its checksum, or too little; all problems are listed.
    """
    found, problems = [], []
    for index, task in enumerate((config.task, *config.evaluation.tasks)):
        try:
            table, rows = _found(task)
        except DataError as error:
            problems.append(_problem(f"evaluation.tasks[{index - 1}]" if index else "task", task, error))
            continue
        found.append(table)
        if rows is not None:
            problems += problems_of(config, config.relations_of_rows(rows, index))
    if problems:
        raise ConfigError(problems, source)
    evaluation = config.evaluation.model_copy(update={"tasks": tuple(found[1:])})
    return config.model_copy(update={"task": found[0], "evaluation": evaluation})


def _found(task: TaskConfig) -> tuple[TaskConfig, int | None]:
    """The table with its path and checksum, and the rows to train on where its data was looked at."""
    if task.name in _GENERATED:
        return task, None
    changes: dict[str, Any] = {}
    if path := getattr(task, "path", ""):
        changes["path"] = str(Path(path).expanduser().absolute())
    made = TASKS[task.name](**task.settings)
    data = made.load(cache_folder())
    if isinstance(made, IdxImages | Cifar10 | FromFile) and not made.checksum:
        changes["checksum"] = made.digest()
    return task.model_copy(update=changes), len(data.train)


def _problem(key: str, task: TaskConfig, error: DataError) -> Problem:
    path = getattr(task, "path", None)
    words = str(error).rstrip(".")
    return (
        Problem(f"{key}.name", shown(task.name), words) if path is None else Problem(f"{key}.path", shown(path), words)
    )
