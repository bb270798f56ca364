"""A part's seal: a mark and the SHA-256 of all other bytes, between the pages and the footer of a Parquet file.

The format allows bytes there that nobody refers to.  What else our files have there, a twin (`search.twin`) or a table
of contents (`search.compacted`), ends where the seal begins.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import pyarrow as pa

_SEAL_MARK: Final = b"LDNN-SEAL-SHA256"
SEAL_SIZE: Final = len(_SEAL_MARK) + 32
"""Bytes of the seal, in front of the footer."""

_PIECE: Final = 1 << 20
SEALED: Final = {b"ldnn.sealed": b"sha256"}
"""Metadata of a file that has a seal, so that one whose mark is damaged is missed."""
_MAGIC: Final = b"PAR1"


class PartError(ValueError):
    """The bytes of a part are damaged or were never a part; the words say how."""


def sealed(pages: bytes, between: bytes, footer: bytes) -> bytes:
    """The pages and the footer of a Parquet file, with a seal and what else is to stand there in between."""
    digest = hashlib.sha256(pages)
    digest.update(between)
    digest.update(footer)
    return b"".join([pages, between, _SEAL_MARK, digest.digest(), footer])


def footer_start(data: bytes) -> int:
    """Where the footer of a Parquet file begins, as its end says; below 0 if it begins before these bytes."""
    return len(data) - len(_MAGIC) - 4 - int.from_bytes(data[-8:-4], "little")


def check_seal(data: bytes) -> int | None:
    """Where the seal begins, None without one; raises PartError if the bytes are not those that were sealed."""
    if len(data) < 12 or not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        raise PartError("it is truncated, or no Parquet file" if data else "it is empty")
    start = footer_start(data) - SEAL_SIZE
    if start < 0 or not data.startswith(_SEAL_MARK, start):
        start = data.rfind(_SEAL_MARK)
    if start < 0:
        if any(name in data for name in SEALED):
            raise PartError("its bytes have changed since it was written: the seal is damaged")
        return None
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(view[start + SEAL_SIZE :])
    if digest.digest() != view[start + len(_SEAL_MARK) : start + SEAL_SIZE]:
        raise PartError("its bytes have changed since it was written: the seal does not match")
    return start


def check_seal_of(file: pa.NativeFile) -> int:
    """Where the seal of a large file begins, which is read piece by piece; unlike small ones it must have one.

    Raises:
        PartError: there is no seal, or the bytes are not those that were sealed.
    """
    size: int = file.size()
    start = seal_start(file)
    digest = hashlib.sha256()
    file.seek(0)
    for first, end in ((0, start), (start + SEAL_SIZE, size)):
        place = file.seek(first)
        while place < end:
            piece = file.read(min(_PIECE, end - place))
            digest.update(piece)
            place += len(piece)
    file.seek(start)
    if file.read(SEAL_SIZE) != _SEAL_MARK + digest.digest():
        raise PartError("its bytes have changed since it was written: the seal does not match")
    return start


def seal_start(file: pa.NativeFile) -> int:
    """Where the seal of a large file must begin, as its end says; nothing else is checked.

    Raises:
        PartError: there is none.
    """
    size: int = file.size()
    if size < 12 + SEAL_SIZE:
        raise PartError("it is empty" if not size else "it is truncated, or no Parquet file")
    file.seek(size - 8)
    tail = file.read(8)
    start = size - 8 - int.from_bytes(tail[:4], "little") - SEAL_SIZE
    if tail[4:] != _MAGIC or start < 4:
        raise PartError("it is truncated, or no Parquet file")
    file.seek(start)
    if file.read(len(_SEAL_MARK)) != _SEAL_MARK:
        raise PartError("its bytes have changed since it was written: the seal is damaged")
    return start


def seal_file(path: Path, between: bytes) -> None:
    """Put a seal, and what else is to stand there, in front of the footer of a Parquet file; flushed to the disk.

    The file must have been written with `SEALED` among its metadata.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 8)
        place = size - 8 - int.from_bytes(file.read(4), "little")
        file.seek(place)
        footer = file.read()
        digest, left = hashlib.sha256(), place
        file.seek(0)
        while left:
            piece = file.read(min(_PIECE, left))
            digest.update(piece)
            left -= len(piece)
        digest.update(between)
        digest.update(footer)
        file.seek(place)
        file.write(between + _SEAL_MARK + digest.digest() + footer)
        file.flush()
        os.fsync(file.fileno())
