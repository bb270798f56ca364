"""A run under a prefix of an object store that speaks S3, through `pyarrow.fs`.

An object is uploaded in one request, so it appears whole or not at all, and a listing shows it from then on.  What an
object store lacks is a link: nothing refuses to overwrite.  (S3 has conditional writes, but `pyarrow.fs` does not
offer them.)  So `place_once` looks before it writes, and two processes that place the same name within the same
moment both write.  That does no harm, because keys are unique to a unit of a run, the rows of a unit follow from the
configuration alone, and one driver at a time hands units out (`search.driver_claim`).
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from search.durable import crash_point, doing
from search.location import LocationError, ObjectUrl
from search.storage import Storage

_ATTEMPTS: Final = 4
_CONNECT_SECONDS: Final = 5.0
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class ObjectStorage(Storage):
    """See `search.storage.Storage`.

    Attributes:
        root: the run's prefix.
    """

    readers: ClassVar[int] = 16
    end: ClassVar[int] = 256 << 10  # a further request would cost more than these bytes

    root: ObjectUrl

    @property
    def _fs(self) -> fs.FileSystem:
        return _file_system(next((url for name in _ENDPOINTS if (url := os.environ.get(name))), None))

    def prepare(self, folders: Sequence[str]) -> None:
        """Nothing: an object store has no folders."""

    def place_once(self, name: str, data: bytes) -> bool:
        """Look, then write; see the module for what that means when two do it at the same time."""
        with doing(f"publish {self.root / name}"):
            if self.size(name) is not None:
                return False
            self.replace(name, data)
        crash_point("published", name)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Upload the object."""
        # Not as a context manager: that would complete an upload that has failed half-way.
        stream = self._fs.open_output_stream(self._inside(name))
        stream.write(data)
        stream.close()

    def read(self, name: str) -> bytes:
        """The whole contents."""
        return self._read(name, None)

    def read_ends(self, names: Sequence[str], most: int) -> Iterator[bytes | OSError]:
        """One after the other; each takes a request for its size and one for its bytes."""
        for name in names:
            try:
                yield self._read(name, most)
            except OSError as error:
                yield error

    def _read(self, name: str, most: int | None) -> bytes:
        try:
            with self._fs.open_input_file(self._inside(name)) as stream:
                if most is not None:
                    stream.seek(max(stream.size() - most, 0))
                data: bytes = stream.read()
        except OSError as error:
            # What is deleted between the two requests fails in words of the client's own.
            if isinstance(error, FileNotFoundError) or self.size(name) is not None:
                raise
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root / name)) from error
        return data

    def open(self, name: str) -> pa.NativeFile:
        """Each piece that is read is a request."""
        return self._fs.open_input_file(self._inside(name))

    def size(self, name: str) -> int | None:
        """Bytes of an object; None also where there is only a prefix of others."""
        found = self._fs.get_file_info(self._inside(name))
        return int(found.size) if found.type == fs.FileType.File else None

    def names(self, folder: str) -> list[str]:
        """Names under a prefix, up to the next slash."""
        return sorted(found.base_name for found in self._listed(folder) if found.base_name)

    def written(self, folder: str) -> dict[str, datetime]:
        """Name → when it was last written, by the store's clock, of the objects in a folder."""
        return {one.base_name: one.mtime for one in self._listed(folder) if one.type == fs.FileType.File}

    def move(self, name: str, to: str) -> None:
        """Copy, then delete: after a crash in between both are there, and the next `repair` moves again."""
        self._fs.move(self._inside(name), self._inside(to))
        crash_point("moved", name)

    def delete(self, name: str) -> None:
        """Remove an object.

        Raises:
            FileNotFoundError: it is not there.
        """
        self._fs.delete_file(self._inside(name))

    def clear_staging(self, *, older_than: float) -> None:
        """Nothing: an upload that was not completed is no object."""

    def bytes_by_folder(self) -> dict[str, int]:
        """Of all objects, by the first part of their names under the run's prefix."""
        found: Counter[str] = Counter()
        for one in self._listed("", recursive=True):
            if one.size:
                inside = one.path.removeprefix(self._inside("")).split("/")
                found[inside[0] if len(inside) > 1 else "."] += one.size
        return dict(found)

    def _inside(self, name: str) -> str:
        return f"{self.root.inside}/{name}"

    def _listed(self, folder: str, *, recursive: bool = False) -> list[Any]:
        under = self._inside(folder).rstrip("/")
        found: list[Any] = self._fs.get_file_info(fs.FileSelector(under, allow_not_found=True, recursive=recursive))
        return found


@functools.cache
def _file_system(endpoint: str | None) -> fs.FileSystem:
    return fs.S3FileSystem(
        **endpoint_options(endpoint),
        connect_timeout=_CONNECT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        # A part is one upload, whose failure is told where it happens.
        background_writes=False,
        allow_delayed_open=True,
    )


def endpoint_options(endpoint: str | None) -> dict[str, Any]:
    """How pyarrow is told of an endpoint: nothing for Amazon's own.

    Raises:
        LocationError: it is not an address, or rows and signatures would cross a network unencrypted.
    """
    if not endpoint:
        return {}
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.path.strip("/"):
        raise LocationError(f"{' or '.join(_ENDPOINTS)} must be https://HOST[:PORT], with no more before or after it")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise LocationError(
            f"plain http is for endpoints on loopback only, but got http://{parts.netloc}: use https, or reach it "
            "through a tunnel on 127.0.0.1"
        )
    return {"endpoint_override": parts.netloc, "scheme": parts.scheme}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
