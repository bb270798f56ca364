"""Data on the user's disk: where it lies, how much of it is read, and whether it is what it was."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ldnn_core.tasks._base import DataError

DATA_VARIABLE: Final = "LDNN_DATA"
"""Environment variable that names a folder of data sets, for those that are not where a recipe says."""

MOST_BYTES: Final = 4 << 30
"""Bytes of a file that are read at most; data is held in memory."""


def find_data(path: str, way_out: str) -> Path:
    """The file or folder itself, or else what has its name in the folder that ``$LDNN_DATA`` names.

    Args:
        path: as the user has given it.
        way_out: how to get such data, a sentence without a full stop.

    Raises:
        DataError: there is neither.
    """
    if path:
        named = Path(path).expanduser()
        elsewhere = os.environ.get(DATA_VARIABLE)
        for place in (named, *([Path(elsewhere) / named.name] if elsewhere else [])):
            if place.exists():
                return place
    said = f"there is no {path}" if path else "no path is given"
    raise DataError(f"{said}: {way_out}; if it has moved, put it into the folder that ${DATA_VARIABLE} names")


def require_regular(path: Path, most: int = MOST_BYTES) -> int:
    """The size of a file in bytes.

    Raises:
        DataError: it is missing, no regular file, or larger than ``most`` bytes.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        raise DataError(f"{path} is not a regular file")
    if found.st_size > most:
        raise DataError(f"{path} has {found.st_size} bytes, more than the {most} that such a file may have")
    return found.st_size


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, 64 hexadecimal digits.

    Raises:
        DataError: one of them cannot be read.
    """
    total = hashlib.sha256()
    for path in files:
        require_regular(path)
        try:
            with path.open("rb") as file:
                own = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        total.update(f"{path.name}\n{own}\n".encode())
    return total.hexdigest()


def require_digest(files: Sequence[Path], checksum: str) -> None:
    """Refuse files that are not those whose digest was kept; any are right if the checksum is empty.

    Raises:
        DataError: they have changed.
    """
    if checksum and digest_of(files) != checksum:
        raise DataError(
            f"{files[0].parent if len(files) > 1 else files[0]} has changed since its checksum was kept "
            f"({checksum[:12]}...): put the data of then back, or make a new run with what is there now"
        )
