"""One driver per run in an object store, where no lock ends with its holder.

A driver writes a *claim*, ``.driver/<unique>.json``, then lists all claims.  Listings of S3 show what was written
before, so of two drivers at least one sees the other, and whoever sees a living other one withdraws: there is never
more than one, and of two that start within the same moment perhaps none.  A claim is renewed every `BEAT_SECONDS`.
One that has not been for `DEAD_SECONDS`, or whose process was one of this machine and is gone, is taken over: the new
driver first writes whom it took over, so that one that was only asleep learns of it at its next beat and stops.

Ages are differences of times that the store has put on objects; no two machines' clocks are compared.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from search.durable import doing
from search.object_storage import ObjectStorage
from search.provenance import is_alive

BEAT_SECONDS: Final = 20.0
DEAD_SECONDS: Final = 120.0
FOLDER: Final = ".driver"


@dataclass(frozen=True)
class Claim:
    """What a driver says of itself.

    Attributes:
        host: its machine.
        pid: its process id there.
        machine: which boot of that machine, and which of its spaces of process ids; None where that is not known.
        started_at: ISO 8601, UTC.
        took_over: names of the claims whose place it has taken.
    """

    host: str
    pid: int
    machine: str | None
    started_at: str
    took_over: list[str] = field(default_factory=list)

    def is_gone(self, of_this_machine: Claim) -> bool:
        """Whether its process is known to have ended: one of the same machine that is no more."""
        here = (of_this_machine.host, of_this_machine.machine)
        return self.machine is not None and (self.host, self.machine) == here and not is_alive(self.pid)


class Held(Exception):  # noqa: N818 - an answer, which the caller turns into words
    """Another driver lives.

    Attributes:
        by: its claim; None if it could not be read.
        silent: seconds since it was last heard of.
    """

    def __init__(self, by: Claim | None, silent: float) -> None:
        super().__init__(by, silent)
        self.by, self.silent = by, silent


def this_process(started_at: str, host: str) -> Claim:
    """The claim of this process."""
    return Claim(host, os.getpid(), _machine(), started_at)


@contextmanager
def claimed(storage: ObjectStorage, own: Claim, lost: threading.Event, *, name: str) -> Iterator[Claim | None]:
    """Hold the right to drive the run.

    Args:
        storage: of the run.
        own: what to say of this process.
        lost: set when another driver has taken this one's place, because it was silent for too long.
        name: of the claim, unique and ending in .json.

    Yields:
        The last driver whose place was taken; None if there was none.

    Raises:
        Held: another driver lives.
        StoreError: the store cannot be read or written.
    """
    try:
        with doing(f"claim {storage.root}"):
            _write(storage, name, own)
            dead = _dead_others(storage, name, own)
            own = Claim(**(asdict(own) | {"took_over": list(dead)}))
            if dead:
                _write(storage, name, own)
            for other in dead:
                _remove(storage, other)
        with _beating(storage, name, own, lost):
            yield next((claim for claim in reversed(dead.values()) if claim), None)
    finally:
        with suppress(OSError):
            _remove(storage, name)


def _dead_others(storage: ObjectStorage, name: str, own: Claim) -> dict[str, Claim | None]:
    written = storage.written(FOLDER)
    now = written.get(name)
    dead: dict[str, Claim | None] = {}
    for other, when in sorted(written.items(), key=lambda item: (item[1], item[0])):
        claim = None if other == name else _read(storage, other)
        if other == name or (claim is None and storage.size(f"{FOLDER}/{other}") is None):
            continue  # withdrawn while we looked
        silent = (now - when).total_seconds() if isinstance(now, datetime) else 0.0
        if silent <= DEAD_SECONDS and not (claim and claim.is_gone(own)):
            raise Held(claim, max(silent, 0.0))
        dead[other] = claim
    return dead


@contextmanager
def _beating(storage: ObjectStorage, name: str, own: Claim, lost: threading.Event) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            # A beat that fails is made up for by the next; if all fail, somebody takes over and says so.
            with suppress(OSError):
                if is_taken(storage, name):
                    lost.set()
                    return
                _write(storage, name, own)

    thread = threading.Thread(target=beat, daemon=True, name="driver-claim")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_taken(storage: ObjectStorage, name: str) -> bool:
    """Whether the claim is gone, or another one says that it took its place."""
    others = set(storage.names(FOLDER))
    if name not in others:
        return True
    claims = [_read(storage, other) for other in others - {name}]
    return any(claim is not None and name in claim.took_over for claim in claims)


def _write(storage: ObjectStorage, name: str, claim: Claim) -> None:
    storage.replace(f"{FOLDER}/{name}", json.dumps(asdict(claim)).encode())


def _remove(storage: ObjectStorage, name: str) -> None:
    with suppress(FileNotFoundError):
        storage.delete(f"{FOLDER}/{name}")


def _read(storage: ObjectStorage, name: str) -> Claim | None:
    try:
        content: Any = storage.read_json(f"{FOLDER}/{name}")
        return Claim(**content)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _machine() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None
