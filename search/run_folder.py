"""A run's folder: made once, and described for good by its ``run.json``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from search.durable import describe_failure, doing
from search.lineage import LineageError, Revision, here_and_now, read_revisions
from search.location import Location
from search.provenance import canonical_json, config_hash
from search.schema import SCHEMA_VERSION, TABLES
from search.storage import STAGING, storage_at
from search.store import QUARANTINE, Store

RUN_FILE: Final = "run.json"
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What the whole name of a run must match."""

ABSENT: Final = "(absent)"
"""Stands for the value of a key that a configuration does not have."""

_REVISED: Final = ("config", "config_hash", "code_version", "code_dirty", "code_digest", "versions")
"""What of ``run.json`` a revision replaces."""

_PLAIN_FOLDERS: Final = ("logs", "report")
_FOLDERS: Final = (*TABLES, QUARANTINE, *_PLAIN_FOLDERS)
_HIDDEN: Final = frozenset({STAGING, ".driver.lock", ".driver.json"})
"""What else a crash may leave in a folder before ``run.json`` is there."""


class RunFolderError(ValueError):
    """A run folder cannot be made, opened or driven as asked; the words say why and the way out."""


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` says; written once, when the run is made.

    Attributes:
        name: the folder's name when it was made.
        run_id: the name and a short hash of everything else here; unique among runs of the same name.
        created_at: ISO 8601, UTC.
        schema_version: of the tables, see `search.schema`.
        seed: the run's seed, from which all others derive.
        config: the resolved configuration.
        config_hash: see `search.provenance.config_hash`.
        code_version: package version and git commit.
        code_dirty: whether the checkout's code had uncommitted changes.
        versions: of python and the libraries.
        hostname: machine that made the folder.
        lineage: ``run_id`` of the run that this one was forked from, and of those whose trials warmed its sampler, with
            commas between; None for a fresh one.
        command: the command line that made it.
        warm_start: what was copied of earlier runs, see `search.warm_start`; None for a run that begins from nothing.
        code_digest: of the sources that numbers depend on, see `search.provenance`; None in older folders.
        data_checksum: of the task's data, see `search.data_checksum`; None where nobody has looked at them.
        changes: of a fork, in what its configuration differs from that of the run it comes from, as objects with key,
            old and new; None for others.
    """

    name: str
    run_id: str
    created_at: str
    schema_version: int
    seed: int
    config: Mapping[str, Any]
    config_hash: str
    code_version: str
    code_dirty: bool
    versions: Mapping[str, str]
    hostname: str
    lineage: str | None
    command: Sequence[str]
    warm_start: Mapping[str, Any] | None = None
    code_digest: str | None = None
    data_checksum: str | None = None
    changes: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Difference:
    """One field in which two configurations differ; ``ABSENT`` where one of them does not have it."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_show(self.old)} -> {_show(self.new)}"


@dataclass(frozen=True)
class RunFolder:
    """A run that exists.

    Attributes:
        path: its folder, absolute, or its prefix in an object store.
        info: what its ``run.json`` says; configuration and code as its last revision has them.
        revisions: how it was extended, or went on with other code, see `search.lineage`.
        made: what ``run.json`` says and nothing else; None if there are no revisions.
    """

    path: Location
    info: RunInfo
    revisions: tuple[Revision, ...] = ()
    made: RunInfo | None = None

    @property
    def configs(self) -> tuple[Mapping[str, Any], ...]:
        """All configurations that it has had, the first and the present one included."""
        return ((self.made or self.info).config, *(revision.config for revision in self.revisions))

    @property
    def store(self) -> Store:
        """Its tables."""
        return Store(self.path)

    def require_same_config(
        self, config: Mapping[str, Any], *, stored: Mapping[str, Any] | None = None, may_change: Collection[str] = ()
    ) -> None:
        """Refuse to go on with another configuration than the run was made with.

        Args:
            config: the resolved configuration now.
            stored: that of the run, with what recipes did not have when it was made; as it stands there if None.
            may_change: dotted keys that make no difference to the results; each covers what lies below it.

        Raises:
            RunFolderError: another field differs; the words list every one with its old and new value.
        """
        changed = [
            one
            for one in difference(stored or self.info.config, config)
            if not any(one.key == key or one.key.startswith(f"{key}.") for key in may_change)
        ]
        if changed:
            lines = "\n".join(f"  {one}" for one in changed)
            raise RunFolderError(
                f"{self.path} was made with another configuration:\n{lines}\n"
                f"Resume it as it is with `ldnn resume {self.path}`, or make a new run of the changed configuration: "
                f"`ldnn search RECIPE --fork {self.path}`"
            )


def create(
    parent: Location,
    name: str,
    config: Mapping[str, Any],
    *,
    seed: int,
    lineage: str | None = None,
    warm_start: Mapping[str, Any] | None = None,
    data_checksum: str | None = None,
    changes: Sequence[Difference] | None = None,
) -> RunFolder:
    """Make a new run folder with its tables and its ``run.json``.

    A folder that holds nothing but what this function makes, left by a crash before ``run.json`` was there, is
    adopted.

    Args:
        parent: where runs lie; a folder is made if it is missing.
        name: the run's name; must match `NAME_PATTERN`.
        config: the resolved configuration, as plain JSON values.
        seed: the run's seed.
        lineage: ``run_id`` of the run that this one comes from.
        warm_start: what was copied of earlier runs, as plain JSON values.
        data_checksum: of the task's data.
        changes: of a fork, in what its configuration differs from that of the run it comes from.

    Raises:
        RunFolderError: a bad name; a folder of that name is a run, holds other files, is a symbolic link, or cannot be
            made there.
        StoreError: the disk is full, or the folder cannot be written.
        ValueError: the configuration has no canonical JSON.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise RunFolderError(
            f"a run's name must be 1 to 64 letters, digits, dots, underscores or hyphens and start with a letter or "
            f"digit, but got {name!r}. Choose another with --set name=..."
        )
    path = parent.absolute() / name
    content: dict[str, Any] = here_and_now(config) | {
        "name": name,
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "lineage": lineage,
        "warm_start": warm_start,
        "data_checksum": data_checksum,
        "changes": None if changes is None else [asdict(one) for one in changes],
    }
    info = RunInfo(run_id=f"{name}-{config_hash({**content, 'pid': os.getpid()})[:8]}", **content)
    _refuse_foreign(path)
    if isinstance(path, Path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{path} cannot be made: {error.strerror}. Choose another --out") from None
    with doing(f"make {path}"):
        storage_at(path).prepare(_PLAIN_FOLDERS)
    store = Store.create(path)
    text = json.dumps(asdict(info), indent=2, allow_nan=False) + "\n"
    if not store.storage.place_once(RUN_FILE, text.encode()):
        raise _is_a_run(path)
    return RunFolder(path, info)


def is_run(path: Location) -> bool:
    """Whether there is a ``run.json``.

    Raises:
        StoreError: the place cannot be read.
    """
    with doing(f"look into {path}"):
        try:
            return storage_at(path).size(RUN_FILE) is not None
        except NotADirectoryError:
            return False


def open_run(path: Location) -> RunFolder:
    """Open an existing run.

    Args:
        path: its folder, or its prefix in an object store.

    Raises:
        RunFolderError: there is no such folder, it or something in it is a symbolic link, it has no readable
            ``run.json``, that file was edited, or it was written under a newer schema.
    """
    path = path.absolute()
    if isinstance(path, Path):
        _require_real(path)
    try:
        content = storage_at(path).read_json(RUN_FILE)
    except FileNotFoundError:
        raise RunFolderError(
            f"{path} is not a run: it has no {RUN_FILE}. `ldnn search RECIPE` makes a run, here too if it is empty"
        ) from None
    except OSError as error:
        raise RunFolderError(describe_failure(f"read {path / RUN_FILE}", error)) from error
    except ValueError as error:
        raise RunFolderError(
            f"{path / RUN_FILE} is damaged: {error}. Put its backup back, or start a new run"
        ) from None
    info = _parse(path, content)
    try:
        revisions = read_revisions(storage_at(path), info.config_hash)
    except OSError as error:
        raise RunFolderError(describe_failure(f"read {path}", error)) from error
    except LineageError as error:
        raise RunFolderError(f"{path}: {error}. Put its backup back, or start a new run") from None
    if not revisions:
        return RunFolder(path, info)
    last = revisions[-1]
    return RunFolder(path, replace(info, **{name: getattr(last, name) for name in _REVISED}), revisions, info)


def _require_real(path: Path) -> None:
    """Raise unless the path is a folder, and it and what it holds are no symbolic links."""
    if path.is_symlink():
        raise RunFolderError(f"{path} is a symbolic link, and run folders must be real: give the folder itself")
    if not path.is_dir():
        raise RunFolderError(f"there is no run folder {path}. `ldnn search RECIPE` makes one")
    if links := [entry.name for entry in path.iterdir() if entry.is_symlink()]:
        raise RunFolderError(f"{path} holds symbolic links ({', '.join(links)}): put what they point to in their place")


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """The fields in which two configurations differ, with dotted keys, in the order of their names.

    Values are compared as `search.provenance.canonical_json`: there is no difference exactly when the hashes agree.

    Raises:
        ValueError: a value has no canonical JSON.
    """
    return list(_differences("", json.loads(canonical_json(old)), json.loads(canonical_json(new))))


def _parse(path: Location, content: Any) -> RunInfo:
    file = path / RUN_FILE
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise RunFolderError(f"{file} is damaged: it names no schema_version. Put its backup back, or start a new run")
    if version > SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema version {version}, but this version of ldnn reads up to {SCHEMA_VERSION}. "
            "Install a newer one: `pip install --upgrade ldnn`"
        )
    names = {field.name for field in fields(RunInfo)}
    # Which folders of earlier versions do not have.
    content = dict.fromkeys(("warm_start", "code_digest", "data_checksum", "changes")) | content
    if missing := sorted(names - content.keys()):
        raise RunFolderError(
            f"{file} is damaged: it lacks {', '.join(missing)}. Put its backup back, or start a new run"
        )
    info = RunInfo(**{name: content[name] for name in names})
    if _hash_of(info.config) != info.config_hash:
        raise RunFolderError(
            f"{file} was edited: its config does not have the hash {info.config_hash}. Put the original back, or start "
            "a new run with the changed configuration under another name"
        )
    return info


def _hash_of(config: Any) -> str | None:
    try:
        return config_hash(config)
    except ValueError:
        return None


def _refuse_foreign(path: Location) -> None:
    """Raise unless a run can be made at the path."""
    if not isinstance(path, Path):
        if is_run(path):
            raise _is_a_run(path)
        if held := storage_at(path).names(""):
            raise _is_foreign(path, held[0])
        return
    if path.is_symlink():
        raise RunFolderError(
            f"{path} is a symbolic link, and run folders must be real: remove it or choose another --out"
        )
    if not path.exists():
        return
    if not path.is_dir():
        raise RunFolderError(f"{path} is a file. Choose another --out or another name with --set name=...")
    if os.path.lexists(path / RUN_FILE):
        raise _is_a_run(path)
    own = [path / name for name in _FOLDERS]
    for entry in path.iterdir():
        is_empty_table = entry in own and entry.is_dir() and not entry.is_symlink() and not any(entry.iterdir())
        if entry.name not in _HIDDEN and not is_empty_table:
            raise _is_foreign(path, entry.name)


def _is_foreign(path: Location, holds: str) -> RunFolderError:
    return RunFolderError(
        f"{path} exists, is not a run, and holds {holds}. Choose another --out or another name with --set name=..."
    )


def _is_a_run(path: Location) -> RunFolderError:
    return RunFolderError(
        f"{path} is a run already. Go on with it with `ldnn resume {path}`, or choose another --out or another name "
        "with --set name=..."
    )


def _differences(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted({*old, *new}):
        before, after = old.get(key, ABSENT), new.get(key, ABSENT)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(f"{prefix}{key}.", before, after)
        elif (key in old) != (key in new) or canonical_json(before) != canonical_json(after):
            yield Difference(prefix + key, before, after)


def _show(value: Any) -> str:
    return ABSENT if value is ABSENT else canonical_json(value)
