"""A run in a folder of a POSIX file system: files appear by a hard link and are flushed with their folders."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import ClassVar, Final

import pyarrow as pa

from search.durable import crash_point, doing, place_once, sync_folder
from search.storage import STAGING, NotAFileError, Storage

_OPEN_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""So that a link is refused and a pipe does not block."""

_ASKED_FOR: Final = 64
"""Files that are open at a time in one thread."""


@dataclass(frozen=True)
class LocalStorage(Storage):
    """See `search.storage.Storage`.

    Attributes:
        root: the run folder.
    """

    readers: ClassVar[int] = 8
    end: ClassVar[int] = 16 << 10  # seal, footer (6 KB) and the twin of a hundred rows

    root: Path

    @property
    def staging(self) -> Path:
        """Where files wait until they are whole, on the same file system as the tables."""
        return self.root / STAGING

    def prepare(self, folders: Sequence[str]) -> None:
        """Make the folders; the run folder itself must exist."""
        for name in (*folders, STAGING):
            (self.root / name).mkdir(exist_ok=True)
        sync_folder(self.root)

    def place_once(self, name: str, data: bytes) -> bool:
        """Through `search.durable.place_once`: exactly one of several processes places its file."""
        target = self.root / name
        with doing(f"publish {target.name} in {target.parent}"):
            self.staging.mkdir(exist_ok=True)
        return place_once(data, target, staging=self.staging)

    def replace(self, name: str, data: bytes) -> None:
        """Through a hidden file in the run folder, so that a reader finds the earlier contents or these."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=self.root, prefix=f".{target.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            # A temporary file is readable by its owner only; this one is as readable as its folder lets it be.
            Path(aside).chmod(0o644)
            Path(aside).replace(target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise

    def read(self, name: str) -> bytes:
        """The whole contents; a link or a device is not opened, as that could block or lead elsewhere."""
        handle, size = self._opened(name)
        try:
            return _read(handle, 0, size)
        finally:
            os.close(handle)

    def read_ends(self, names: Sequence[str], most: int) -> Iterator[bytes | OSError]:
        """Under the same rule as `read`.  The disk is asked for many before the first is waited for."""
        asked: deque[tuple[int, int] | OSError] = deque()
        try:
            for name in names:
                one = self._ask_for_end(name, most)
                if isinstance(one, OSError) and one.errno in (errno.EMFILE, errno.ENFILE):
                    while asked:
                        yield _end(asked[0], most)
                        _close(asked.popleft())
                    one = self._ask_for_end(name, most)
                asked.append(one)
                if len(asked) == _ASKED_FOR:
                    yield _end(asked[0], most)
                    _close(asked.popleft())
            while asked:
                yield _end(asked[0], most)
                _close(asked.popleft())
        finally:
            for one in asked:
                _close(one)

    def _ask_for_end(self, name: str, most: int) -> tuple[int, int] | OSError:
        """Handle and size of a file whose end the system now fetches, if it is not in memory yet."""
        try:
            handle, size = self._opened(name)
        except OSError as error:
            return error
        start = max(size - most, 0)
        with suppress(AttributeError, OSError):  # not every system has it, and nothing depends on it
            os.posix_fadvise(handle, start, size - start, os.POSIX_FADV_WILLNEED)
        return handle, size

    def open(self, name: str) -> pa.NativeFile:
        """Under the same rule as `read`."""
        os.close(self._opened(name)[0])
        return pa.OSFile(f"{self.root}/{name}")

    def _opened(self, name: str) -> tuple[int, int]:
        """A handle and the size of the file."""
        path = f"{self.root}/{name}"
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _OPEN_NO_LINK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotAFileError(errno.EINVAL, "Not a regular file", path) from None
            raise
        status = os.fstat(handle)
        mode = status.st_mode
        if not S_ISREG(mode):
            os.close(handle)
            what = (errno.EISDIR, os.strerror(errno.EISDIR)) if S_ISDIR(mode) else (errno.EINVAL, "Not a regular file")
            raise NotAFileError(*what, path)
        return handle, status.st_size

    def size(self, name: str) -> int | None:
        """Bytes of what lies at the name, links not followed."""
        try:
            return (self.root / name).lstat().st_size
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Names in a folder; a run folder that is gone is an error, a folder in it that is gone has none."""
        path = self.root / folder
        if not path.exists() and self.root.is_dir():
            return []
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries)

    def move(self, name: str, to: str) -> None:
        """Rename, and flush both folders."""
        source, target = self.root / name, self.root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        crash_point("moved", name)
        sync_folder(target.parent)
        sync_folder(source.parent)

    def delete(self, name: str) -> None:
        """Unlink the file."""
        (self.root / name).unlink()

    def clear_staging(self, *, older_than: float) -> None:
        """Remove old files of the staging folder; its hidden lock stays."""
        oldest = time.time() - older_than
        for path in self.staging.iterdir() if self.staging.exists() else ():
            if not path.name.startswith(".") and path.stat().st_mtime < oldest:
                path.unlink()

    def bytes_by_folder(self) -> dict[str, int]:
        """Of all regular files, by the folder of the run in which they lie.

        What a running worker has just moved or removed does not count.
        """
        found: Counter[str] = Counter()
        for path in self.root.rglob("*"):
            if size := _size(path):
                inside = path.relative_to(self.root).parts
                found[inside[0] if len(inside) > 1 else "."] += size
        return dict(found)


def _end(asked: tuple[int, int] | OSError, most: int) -> bytes | OSError:
    """The last bytes of a file, given its handle and size."""
    if isinstance(asked, OSError):
        return asked
    handle, size = asked
    try:
        return _read(handle, max(size - most, 0), size)
    except OSError as error:
        return error


def _read(handle: int, start: int, end: int) -> bytes:
    data = os.pread(handle, end - start, start)
    while len(data) < end - start and (more := os.pread(handle, end - start - len(data), start + len(data))):
        data += more
    return data


def _close(asked: tuple[int, int] | OSError) -> None:
    if not isinstance(asked, OSError):
        os.close(asked[0])


def _size(path: Path) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return status.st_size if S_ISREG(status.st_mode) else 0
