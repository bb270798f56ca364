"""Runs that are made, and what becomes of a run whose configuration is to change: it is extended, forked or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobs.terminal import AS_IT_IS, console
from search.config import RunConfig, canonical, stored_config
from search.data_checksum import require_same_data, task_checksum
from search.driver_lock import driver_lock
from search.extension import require_extension
from search.lineage import revise
from search.location import Location
from search.run_folder import Difference, RunFolder, create, difference, is_run, open_run
from search.task_data import with_data
from search.warm_start import WarmStart, gather

_NO_DIFFERENCE: Final = ("description",)
"""What changes no number, beside resources and the places of data, which no canonical form has."""

_FORKS: Final = 1000


def made(config: RunConfig, out: Location, *, quiet: bool) -> RunFolder:
    """A new run.

    Raises:
        RunFolderError: it cannot be made there.
        DataError: the data cannot be had.
    """
    run, warm = _created(config, out)
    if warm is not None and not quiet:
        console().print(f"Warm start: {warm}", **AS_IT_IS)
    return run


def made_as_fork(origin: RunFolder, config: RunConfig, out: Location, *, quiet: bool) -> RunFolder:
    """A new run whose configuration is that of another with changes; the differences are shown and recorded.

    It has a folder of its own: where the name is taken it is called ``<name>-fork1``, ``<name>-fork2`` and so on.

    Raises:
        RunFolderError: it cannot be made there.
        DataError: the data cannot be had.
    """
    names = (config.name, *(f"{config.name[:50]}-fork{number}" for number in range(1, _FORKS)))
    name = next(name for name in names if not is_run(out / name))
    config = config.model_copy(update={"name": name})
    changes = difference(canonical(stored_config(origin.info.config, origin.path)), canonical(config))
    run, _ = _created(config, out, origin.info.run_id, changes=changes)
    if not quiet:
        _show(f"Fork of {origin.info.run_id}: {run.path}", changes)
    return run


def as_it_may_go_on(run: RunFolder, config: RunConfig, *, quiet: bool) -> RunFolder:
    """A run that is to go on with a configuration: its own, that of before an extension, or one with more trials.

    Raises:
        RunFolderError: the configuration is another; the words list every field that differs.
    """
    for config_of in run.configs:
        if not _changes(_stored(config_of, run), config):
            return run
    before = _stored(run.info.config, run)
    changes = _changes(before, config)
    if [one.key for one in changes] == ["search.trials"] and config.search.trials > before.search.trials:
        return extended(run, config, quiet=quiet)
    run.require_same_config(canonical(config), stored=canonical(before), may_change=_NO_DIFFERENCE)
    return run


def extended(run: RunFolder, config: RunConfig, *, quiet: bool) -> RunFolder:
    """A run with more trials, perhaps from a wider space; what changes is shown and recorded in its lineage.

    Raises:
        ConfigError: the configuration is no extension of the run's.
        RunFolderError: somebody drives the run.
        DataError: the data are not those that the run was made with.
    """
    before = _stored(run.info.config, run)
    changes = _changes(before, config)
    first_trial = require_extension(before, config, [one.key for one in changes], run.path)
    require_same_data(config.task.name, task_checksum(config.task), run.info.data_checksum)
    with driver_lock(run):
        # Resources are those of the run: whoever wants others says so each time.
        stays = _plain(before) | {"search": _plain(config)["search"]}
        revise(run, stays, reason="extended", changes=changes, first_trial=first_trial)
    if not quiet:
        _show(f"Extended {run.info.run_id}:", changes)
    return open_run(run.path)


def _created(
    config: RunConfig, out: Location, *origins: str, changes: Sequence[Difference] | None = None
) -> tuple[RunFolder, WarmStart | None]:
    """The folder of a run that comes from others (their ids), and what it takes over from those of its warm start."""
    # Before the folder is made: what it takes over from others is fixed then, and has to be there.
    warm, checksum = gather(config), task_checksum(config.task)
    run = create(
        out,
        config.name,
        _plain(config),
        seed=config.seed,
        lineage=", ".join([*origins, *(warm.run_ids if warm else ())]) or None,
        warm_start=warm.as_json() if warm else None,
        data_checksum=checksum,
        changes=changes,
    )
    return run, warm


def _stored(config: Mapping[str, Any], run: RunFolder) -> RunConfig:
    return with_data(stored_config(config, run.path), str(run.path))


def _plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _changes(old: RunConfig, new: RunConfig) -> list[Difference]:
    return [one for one in difference(canonical(old), canonical(new)) if one.key not in _NO_DIFFERENCE]


def _show(head: str, changes: Sequence[Difference]) -> None:
    console().print("\n".join([head, *(f"  {one}" for one in changes)]), **AS_IT_IS)
