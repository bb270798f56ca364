"""One driver per run: the right to hand out a run's work and to move its parts."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from search.durable import doing
from search.location import Location, ObjectUrl
from search.provenance import hostname
from search.run_folder import RunFolder, RunFolderError, open_run

_LOCK_FILE: Final = ".driver.lock"
_HOLDER_FILE: Final = ".driver.json"


@dataclass(frozen=True)
class Holder:
    """The process that drives, or drove, a run.

    Attributes:
        host: its machine.
        pid: its process id there.
        started_at: ISO 8601, UTC.
        token: by which its workers know it, see `require_driver`; None in what earlier versions have written.
    """

    host: str
    pid: int
    started_at: str
    token: str | None = None


class LeftBehindError(RuntimeError):
    """A worker's driver is gone and another may drive: what the worker finds must not be published."""


def new_token() -> str:
    """What tells one drive of a run from all others."""
    return uuid.uuid4().hex


@contextmanager
def driver_lock(
    run: RunFolder, lost: threading.Event | None = None, *, token: str | None = None
) -> Iterator[Holder | None]:
    """Hold the right to drive a run.

    The operating system drops the lock of a folder when its holder dies, however it dies, so a dead driver is no
    obstacle.  For a run in an object store see `search.driver_claim`.

    Args:
        run: the run.
        lost: set if the right is lost to another driver, which can happen in an object store only.
        token: of this drive, see `require_driver`; a new one if None.

    Yields:
        The driver that died while it held the lock, whose place is taken over; None if there was none.

    Raises:
        RunFolderError: a living process holds the lock; the words name its host and process id.
        StoreError: the folder cannot be written.
    """
    token = token or new_token()
    if isinstance(run.path, ObjectUrl):
        with _claim(run, run.path, lost or threading.Event(), token) as before:
            yield before
        return
    lock = FileLock(run.path / _LOCK_FILE, timeout=0)
    record = run.path / _HOLDER_FILE
    with doing(f"lock {run.path}"):
        try:
            lock.acquire()
        except Timeout:
            who = "a process starting just now"
            if holder := _read_holder(record):
                who = f"process {holder.pid} on {holder.host} since {holder.started_at}"
            raise RunFolderError(
                f"{run.path} is being driven by {who}. Wait for it or end it, then `ldnn resume {run.path}`"
            ) from None
    try:
        previous = _read_holder(record)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with doing(f"write {record}"):
            holder = Holder(hostname(), os.getpid(), now, token)
            record.write_text(json.dumps(asdict(holder)), encoding="utf-8")
        try:
            yield previous
        finally:
            # The file only informs, so its loss must not hide what ended the block.
            with suppress(OSError):
                record.unlink()
    finally:
        lock.release()


def require_driver(run: Location, token: str) -> None:
    """Refuse to go on with work whose driver no longer has the run.

    A worker can outlive its driver: on a cluster, when the driver is killed, or when the worker hung.  As long as
    nobody else drives, what it finds is welcome, as it is what it was asked for; once another one has come (and
    perhaps gone) the trial is another attempt's.

    Args:
        run: the run.
        token: of the drive that has handed out the work.

    Raises:
        LeftBehindError: another driver came, or that one has ended.
    """
    try:
        if isinstance(run, ObjectUrl):
            from search.driver_claim import is_taken
            from search.object_storage import ObjectStorage

            gone = is_taken(ObjectStorage(run), f"{token}.json")
        else:
            gone = _holder(run / _HOLDER_FILE).token != token
    except FileNotFoundError:
        gone = True
    except (OSError, ValueError, TypeError):
        return  # it cannot be told now; if the place is gone, publishing says so
    if gone:
        raise LeftBehindError(f"the driver that asked for this work no longer drives {run}: nothing is published")


@contextmanager
def _claim(run: RunFolder, url: ObjectUrl, lost: threading.Event, token: str) -> Iterator[Holder | None]:
    from search.driver_claim import DEAD_SECONDS, Held, claimed, this_process
    from search.object_storage import ObjectStorage

    own = this_process(datetime.now(UTC).isoformat(timespec="seconds"), hostname())
    try:
        with claimed(ObjectStorage(url), own, lost, name=f"{token}.json") as before:
            # Nothing in an object store keeps two processes from making a run of one name at the same moment.
            if open_run(url).info.run_id != run.info.run_id:
                raise RunFolderError(f"{url} was made again by another process meanwhile: `ldnn resume {url}`")
            yield None if before is None else Holder(before.host, before.pid, before.started_at)
    except Held as held:
        who = f"process {held.by.pid} on {held.by.host} since {held.by.started_at}" if held.by else "another process"
        raise RunFolderError(
            f"{url} is being driven by {who}, last heard of {held.silent:.0f} s ago. Wait for it or end it, then "
            f"`ldnn resume {url}`; a driver that is silent for {DEAD_SECONDS:.0f} s counts as dead"
        ) from None


def _read_holder(record: Path) -> Holder | None:
    """Who wrote the holder file; None if nobody did, or was killed half-way through it."""
    try:
        return _holder(record)
    except (OSError, ValueError, TypeError):
        return None


def _holder(record: Path) -> Holder:
    # What earlier versions have written says more.
    names = {one.name for one in fields(Holder)}
    return Holder(**{name: value for name, value in dict(json.loads(record.read_bytes())).items() if name in names})
