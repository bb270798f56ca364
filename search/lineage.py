"""How a run goes on differently from how it was made: its revisions.

``run.json`` is written once.  What a run is allowed to change later, more trials, a wider space to sample them from, or
other code, is said in files beside it, ``lineage/0001.json``, ``lineage/0002.json`` and so on, each written once too.
A revision holds the whole configuration that counts from then on.  Trials that are there keep theirs, number by number:
what a revision may change is no part of a trial's configuration, so the hash in every row stays right.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from search.durable import StoreError, doing
from search.provenance import canonical_json, code_digest, code_version, config_hash, hostname, library_versions
from search.storage import Storage

if TYPE_CHECKING:
    from search.run_folder import Difference, RunFolder

FOLDER: Final = "lineage"
_NAME: Final = re.compile(r"[0-9]{4}\.json")


class LineageError(ValueError):
    """The revisions of a run are damaged; the words say which and how."""


@dataclass(frozen=True)
class Revision:
    """From one moment on.

    Attributes:
        number: from 1.
        reason: extended, or other code.
        created_at: ISO 8601, UTC.
        follows: hash of the configuration before.
        changes: what differs from it, as objects with key, old and new.
        config: the resolved configuration.
        config_hash: see `search.provenance.config_hash`.
        first_trial: number of the first trial of each method that is sampled from this configuration's space; None if
            the space is that of before.
        code_version: package version and git commit.
        code_dirty: whether the checkout's code had uncommitted changes.
        code_digest: see `search.provenance.code_digest`.
        versions: of python and the libraries.
        hostname: machine.
        command: the command line.
    """

    number: int
    reason: str
    created_at: str
    follows: str
    changes: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    config_hash: str
    first_trial: int | None
    code_version: str
    code_dirty: bool
    code_digest: str
    versions: Mapping[str, str]
    hostname: str
    command: Sequence[str]


def here_and_now(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` and every revision say alike: a configuration, and the code and machine from which it is made.

    Args:
        config: the resolved configuration, as plain JSON values.

    Raises:
        ValueError: the configuration has no canonical JSON.
    """
    config = json.loads(canonical_json(config))
    version, dirty = code_version()
    return {
        "created_at": datetime.now(UTC).isoformat(),
        "config": config,
        "config_hash": config_hash(config),
        "code_version": version,
        "code_dirty": dirty,
        "code_digest": code_digest(),
        "versions": library_versions(),
        "hostname": hostname(),
        "command": list(sys.argv),
    }


def read_revisions(storage: Storage, original_hash: str) -> tuple[Revision, ...]:
    """The revisions of a run, in their order.

    Args:
        storage: of the run.
        original_hash: of the configuration in its ``run.json``.

    Raises:
        LineageError: one is missing, was edited, or does not follow from the one before.
        OSError: the place cannot be read.
    """
    found: list[Revision] = []
    before = original_hash
    for number, name in enumerate([name for name in storage.names(FOLDER) if _NAME.fullmatch(name)], start=1):
        try:
            content = storage.read_json(f"{FOLDER}/{name}")
            revision = Revision(**{field.name: content[field.name] for field in fields(Revision)})
            actual = config_hash(revision.config)
        except (ValueError, KeyError, TypeError) as error:
            raise LineageError(f"{FOLDER}/{name} is damaged ({type(error).__name__}: {error})") from None
        if (revision.number, revision.follows, revision.config_hash) != (number, before, actual):
            raise LineageError(
                f"{FOLDER}/{name} was edited or does not follow from what is before it: it must be number {number}, "
                f"follow {before} and have the configuration hash {actual}, but says "
                f"(number={revision.number}, follows={revision.follows}, config_hash={revision.config_hash})"
            )
        found.append(revision)
        before = actual
    return tuple(found)


def revise(
    run: RunFolder,
    config: Mapping[str, Any],
    *,
    reason: str,
    changes: Sequence[Difference],
    first_trial: int | None = None,
) -> None:
    """Write the next revision of a run; for its driver.  Open the run again to see it.

    Args:
        run: the run as it is.
        config: the resolved configuration from now on, as plain JSON values.
        reason: extended, or other code.
        changes: what differs from before.
        first_trial: see `Revision`.

    Raises:
        StoreError: it cannot be written, or another process was first.
    """
    revision = Revision(
        number=len(run.revisions) + 1,
        reason=reason,
        follows=run.info.config_hash,
        changes=[asdict(one) for one in changes],
        first_trial=first_trial,
        **here_and_now(config),
    )
    storage, name = run.store.storage, f"{FOLDER}/{revision.number:04d}.json"
    with doing(f"make {run.path / FOLDER}"):
        storage.prepare([FOLDER])
    if not storage.place_once(name, (json.dumps(asdict(revision), indent=2, allow_nan=False) + "\n").encode()):
        raise StoreError(
            f"{run.path} was changed by another process meanwhile: look at it with `ldnn status`, try again"
        )
