"""Batches of networks that a run could not judge, with the reasons: notes for people, which no result depends on.

A trial that fails has a row that says why.  A batch of evaluations has rows only of networks that were judged, so its
failure is a small file in ``unjudged/``, written by the driver and gone as soon as the batch is judged after all.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from search.schema import FINISHED
from search.storage import Storage

UNJUDGED: Final = "unjudged"
"""The folder of the notes."""


class Notes:
    """Keeps the notes of one drive of a run.

    One that cannot be written or removed stops nothing: the driver says the same at its end.

    Args:
        storage: of the run.
        afresh: whether notes of earlier drives are removed, because this one looks into all that they are about.
    """

    def __init__(self, storage: Storage, *, afresh: bool) -> None:
        self._storage = storage
        self._there: set[str] = set()
        with suppress(OSError):
            self._there = set(storage.names(UNJUDGED))
        for name in sorted(self._there) if afresh else ():
            self._remove(name)

    def ended(self, key: str, status: str, words: str, *, attempts: int) -> None:
        """Note why a batch did not end well, or forget why it did not before.

        Args:
            key: of the unit.
            status: how it ended.
            words: the reason.
            attempts: tries so far.
        """
        name = f"{key}.json"
        if status in FINISHED:
            self._remove(name)
            return
        note = {"unit": key, "status": status, "error": words, "attempts": attempts}
        text = json.dumps(note | {"at": datetime.now(UTC).isoformat()}, indent=2) + "\n"
        with suppress(OSError):
            self._storage.replace(f"{UNJUDGED}/{name}", text.encode())
            self._there.add(name)

    def _remove(self, name: str) -> None:
        if name in self._there:
            with suppress(OSError):
                self._storage.delete(f"{UNJUDGED}/{name}")
            self._there.discard(name)


def read_unjudged(storage: Storage) -> list[dict[str, Any]]:
    """All notes, by key; what is none is passed over.

    Returns:
        Objects with ``unit``, ``status``, ``error``, ``attempts`` and ``at``.

    Raises:
        OSError: the run cannot be read.
    """
    found = []
    for name in storage.names(UNJUDGED):
        with suppress(OSError, ValueError):
            note = storage.read_json(f"{UNJUDGED}/{name}")
            if isinstance(note, dict) and note.keys() >= {"unit", "status", "error", "attempts", "at"}:
                found.append(note)
    return found


def unjudged_words(notes: list[dict[str, Any]]) -> list[str]:
    """A sentence for each."""
    return [f"{note['unit']} is not judged: {note['status']}, {note['error']}" for note in notes]
