"""One driver per run: the right to hand out a run's work and to move its parts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from search.durable import StoreError, describe_failure
from search.provenance import hostname
from search.run_folder import RunFolder, RunFolderError

_LOCK_FILE: Final = ".driver.lock"
_HOLDER_FILE: Final = ".driver.json"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Holder:
    """The process that drives, or drove, a run.

    Attributes:
        host: its machine.
        pid: its process id there.
        boot_id: which boot of that machine; None where the system has no such id.
        started_at: ISO 8601, UTC.
    """

    host: str
    pid: int
    boot_id: str | None
    started_at: str


@contextmanager
def driver_lock(run: RunFolder) -> Iterator[Holder | None]:
    """Hold the right to drive a run.

    The operating system drops the lock when its holder dies, however it dies, so a dead driver is no obstacle.

    Yields:
        The driver that died while it held the lock, whose place is taken over; None if there was none.

    Raises:
        RunFolderError: a living process holds the lock; the words name its host and process id.
        StoreError: the folder cannot be written.
    """
    lock = FileLock(run.path / _LOCK_FILE, timeout=0)
    record = run.path / _HOLDER_FILE
    try:
        lock.acquire()
    except Timeout:
        holder = _read_holder(record)
        who = (
            f"process {holder.pid} on {holder.host} since {holder.started_at}"
            if holder
            else "a process starting just now"
        )
        raise RunFolderError(
            f"{run.path} is being driven by {who}. Wait for it or end it, then `ldnn resume {run.path}`"
        ) from None
    except OSError as error:
        raise StoreError(describe_failure(f"lock {run.path}", error)) from error
    try:
        previous = _read_holder(record)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            record.write_text(json.dumps(asdict(Holder(hostname(), os.getpid(), _boot_id(), now))), encoding="utf-8")
        except OSError as error:
            raise StoreError(describe_failure(f"write {record}", error)) from error
        try:
            yield previous
        finally:
            # The file only informs, so its loss must not hide what ended the block.
            with suppress(OSError):
                record.unlink()
    finally:
        lock.release()


def _read_holder(record: Path) -> Holder | None:
    """Who wrote the holder file; None if nobody did, or was killed half-way through it."""
    try:
        return Holder(**json.loads(record.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None
