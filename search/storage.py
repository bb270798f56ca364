"""What a run needs of the place where it lies: the same few operations in a folder and in an object store."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import pyarrow as pa

from search.location import Location

STAGING: Final = ".staging"
"""The folder in which files wait until they are whole; hidden from readers of the run folder."""


LARGEST_JSON: Final = 64 << 20
"""Bytes of a file that describes a run; what it took over from other runs is most of it, and far below this."""


class NotAFileError(OSError):
    """Something lies at a name that is neither a file nor an object."""


class Storage(ABC):
    """The files or objects of one run, by names relative to it such as ``trials/part-a.parquet``.

    Any number of processes may read and place at the same time.  An object appears whole or not at all, and a
    listing shows what was placed before it was asked for.  `move`, `replace` and `clear_staging` are for the driver.
    All raise OSError when the place cannot be read or written; `place_once` says it as StoreError.

    Attributes:
        readers: how many objects are best read at the same time, where reading is mostly waiting.
        end: bytes that are read at first of a small part, which for most hold its twin (`search.twin`).
        root: the run folder, or its prefix in an object store.
    """

    readers: ClassVar[int]
    end: ClassVar[int]
    root: Location

    @abstractmethod
    def prepare(self, folders: Sequence[str]) -> None:
        """Make the folders in which objects will be placed, where such a thing is needed."""

    @abstractmethod
    def place_once(self, name: str, data: bytes) -> bool:
        """Publish an object durably unless one of that name is there.

        Returns:
            True if it is new, False if an earlier one stands.

        Raises:
            StoreError: it could not be published; nothing is half-published.
        """

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Write an object, in the place of an earlier one if there is one: a report, or a note for people."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole contents.

        Raises:
            FileNotFoundError: there is no such object.
            NotAFileError: it is a folder, a link or a device.
        """

    def read_json(self, name: str) -> Any:
        """What a small file says, which may come from anywhere: its size is looked at before it is read.

        Raises:
            ValueError: it is too large, or no JSON, or nested too deep to be read.
            OSError: as `read`.
        """
        size = self.size(name) or 0
        if size > LARGEST_JSON:
            raise ValueError(f"it must have at most {LARGEST_JSON} bytes, but has {size}")
        try:
            return json.loads(self.read(name))
        except RecursionError:
            raise ValueError("it must be JSON, but has too many brackets within brackets") from None

    @abstractmethod
    def read_ends(self, names: Sequence[str], most: int) -> Iterator[bytes | OSError]:
        """Of each the last bytes, all if there are not more; or the error that `read` would raise."""

    @abstractmethod
    def open(self, name: str) -> pa.NativeFile:
        """The contents to be read piece by piece, in any order; raises what `read` raises.  To be closed."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of what lies at the name, whatever it is; None if nothing does."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names directly in a folder, sorted; none if the folder is not there.  Empty for the run itself."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Give an object another name, whose folder is made if it is missing."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object.

        Raises:
            FileNotFoundError: it is not there.
        """

    @abstractmethod
    def clear_staging(self, *, older_than: float) -> None:
        """Remove what publishing left behind more than so many seconds ago."""

    @abstractmethod
    def bytes_by_folder(self) -> dict[str, int]:
        """Of everything in the run, folder by folder; what lies in none counts as ``.``."""


def storage_at(root: Location) -> Storage:
    """The storage of a run.

    Raises:
        LocationError: the environment names an endpoint that may not be used.
    """
    if isinstance(root, Path):
        from search.local_storage import LocalStorage

        return LocalStorage(root)
    from search.object_storage import ObjectStorage  # its library takes a while to load

    return ObjectStorage(root)
