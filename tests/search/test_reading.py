"""Many parts at a time: the same rows in the same order, whether reading waits or not."""

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from search import reading
from search.local_storage import _ASKED_FOR, LocalStorage
from search.schema import Status
from search.store import Store

PARTS = 200


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path)
    for number in range(PARTS):
        store.publish("trials", f"t-{number:04d}-a0", [{"trial_id": f"t-{number:04d}", "status": Status.OK}])
    return store


def trials(store: Store) -> list[str]:
    rows, bad = store.read_checked("trials", columns=["trial_id"])
    assert [part.path.name for part in bad] == ["part-t-0100-a0.parquet"]
    found: list[str] = rows["trial_id"].to_pylist()
    return found


@pytest.mark.parametrize("waits", [False, True])
def test_parts_come_in_order_in_one_thread_or_several(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    threads = set()
    one_after_the_other = LocalStorage.read_ends
    monkeypatch.setattr(reading, "_is_waiting", lambda wall, busy: waits)

    def read_ends(self, names, most):  # type: ignore[no-untyped-def]
        threads.add(threading.get_ident())
        return one_after_the_other(self, names, most)

    (store.root / "trials" / "part-t-0100-a0.parquet").write_bytes(b"")
    monkeypatch.setattr(LocalStorage, "read_ends", read_ends)
    monkeypatch.setattr(reading, "_AT_ONCE", 7)
    assert trials(store) == [f"t-{number:04d}" for number in range(PARTS) if number != 100]
    assert (len(threads) > 1) is waits


def open_files(store: Store) -> int:
    """Parts that are open in this process."""
    found = 0
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += handle.readlink().is_relative_to(store.root / "trials")
    return found


def test_files_are_closed_however_reading_ends(store: Store) -> None:
    storage, names = LocalStorage(store.root), [f"trials/part-t-{number:04d}-a0.parquet" for number in range(PARTS)]
    ends = storage.read_ends(names, 100)
    assert next(ends) == storage.read(names[0])[-100:]
    assert open_files(store) == _ASKED_FOR
    ends.close()  # type: ignore[attr-defined]
    assert open_files(store) == 0


def test_of_several_files_each_has_its_own_error(store: Store) -> None:
    storage, there = LocalStorage(store.root), "trials/part-t-0000-a0.parquet"
    size = storage.size(there)
    assert size is not None
    missing, whole, folder, short = storage.read_ends(["trials/none", there, "trials", there], size + 1)
    assert isinstance(missing, FileNotFoundError)
    assert isinstance(folder, OSError)
    assert whole == short == storage.read(there)


def test_where_no_more_files_can_be_opened_those_that_are_open_are_read_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, names = LocalStorage(store.root), [f"trials/part-t-{number:04d}-a0.parquet" for number in range(PARTS)]
    expected = list(storage.read_ends(names, 100))
    opened = os.open

    def few(path, flags, *more, **named):  # type: ignore[no-untyped-def]
        if open_files(store) >= 5:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", few)
    assert list(storage.read_ends(names, 100)) == expected


def test_most_of_a_time_is_waiting_or_it_is_not() -> None:
    assert reading._is_waiting(1.0, 0.4)
    assert not reading._is_waiting(1.0, 0.6)
