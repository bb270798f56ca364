"""Runs that are made, and what becomes of a run whose configuration is to change: it is extended, forked or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from jobs.results import console
from search.config import RunConfig, stored_config
from search.data_checksum import require_same_data, task_checksum
from search.driver_lock import driver_lock
from search.extension import require_extension
from search.lineage import revise
from search.location import Location
from search.run_folder import Difference, RunFolder, create, difference, is_run, open_run
from search.warm_start import gather

_AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "soft_wrap": True}
_NO_DIFFERENCE: Final = ("resources", "description")
"""Sections that change no number."""

_FORKS: Final = 1000


def made(config: RunConfig, out: Location, *, quiet: bool) -> RunFolder:
    """A new run.

    Raises:
        RunFolderError: it cannot be made there.
        DataError: the data cannot be had.
    """
    # Before the folder is made: what it takes over from others is fixed then, and has to be there.
    warm, checksum = gather(config), task_checksum(config.task)
    lineage, told = (None, None) if warm is None else (", ".join(warm.run_ids), warm.as_json())
    run = create(
        out, config.name, _plain(config), seed=config.seed, lineage=lineage, warm_start=told, data_checksum=checksum
    )
    if warm is not None and not quiet:
        console().print(f"Warm start: {warm}", **_AS_IT_IS)
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
    warm, checksum = gather(config), task_checksum(config.task)
    changes = difference(_plain(stored_config(origin.info.config, origin.path)), _plain(config))
    run = create(
        out,
        name,
        _plain(config),
        seed=config.seed,
        lineage=", ".join([origin.info.run_id, *(warm.run_ids if warm else ())]),
        warm_start=warm.as_json() if warm else None,
        data_checksum=checksum,
        changes=changes,
    )
    if not quiet:
        _show(f"Fork of {origin.info.run_id}: {run.path}", changes)
    return run


def as_it_may_go_on(run: RunFolder, config: RunConfig, *, quiet: bool) -> RunFolder:
    """A run that is to go on with a configuration: its own, that of before an extension, or one with more trials.

    Raises:
        RunFolderError: the configuration is another; the words list every field that differs.
    """
    wanted = _plain(config)
    for config_of in run.configs:
        as_it_was = _plain(stored_config(config_of, run.path))
        if not _changes(as_it_was, wanted):
            return run
    before = stored_config(run.info.config, run.path)
    changes = _changes(_plain(before), wanted)
    if [one.key for one in changes] == ["search.trials"] and config.search.trials > before.search.trials:
        return extended(run, config, quiet=quiet)
    run.require_same_config(wanted, stored=_plain(before), may_change=_NO_DIFFERENCE)
    return run


def extended(run: RunFolder, config: RunConfig, *, quiet: bool) -> RunFolder:
    """A run with more trials, perhaps from a wider space; what changes is shown and recorded in its lineage.

    Raises:
        ConfigError: the configuration is no extension of the run's.
        RunFolderError: somebody drives the run.
        DataError: the data are not those that the run was made with.
    """
    before = stored_config(run.info.config, run.path)
    changes = _changes(_plain(before), _plain(config))
    first_trial = require_extension(before, config, [one.key for one in changes], run.path)
    require_same_data(config.task.name, task_checksum(config.task), run.info.data_checksum)
    with driver_lock(run):
        # Resources are those of the run: whoever wants others says so each time.
        stays = _plain(before) | {"search": _plain(config)["search"]}
        revise(run, stays, reason="extended", changes=changes, first_trial=first_trial)
    if not quiet:
        _show(f"Extended {run.info.run_id}:", changes)
    return open_run(run.path)


def _plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    return [one for one in difference(old, new) if one.key.partition(".")[0] not in _NO_DIFFERENCE]


def _show(head: str, changes: Sequence[Difference]) -> None:
    console().print("\n".join([head, *(f"  {one}" for one in changes)]), **_AS_IT_IS)
