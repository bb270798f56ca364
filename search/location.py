"""Where runs lie: in a folder, or under a prefix of an object store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BUCKET: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_SEGMENT: Final = r"[A-Za-z0-9_.][A-Za-z0-9_.=-]{0,254}"


class LocationError(ValueError):
    """What was given is neither a folder nor an address that runs can lie at; the words say why."""


@dataclass(frozen=True)
class ObjectUrl:
    """A prefix in a bucket, ``s3://bucket/prefix``; joined like a path.

    It has no credentials and no endpoint: both come from the environment, so that an address may be shown, recorded
    and handed to other machines.

    Attributes:
        bucket: name of the bucket.
        key: the prefix, without slashes at its ends; empty for the bucket itself.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.inside}"

    def __truediv__(self, name: str) -> ObjectUrl:
        return ObjectUrl(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def inside(self) -> str:
        """Bucket and prefix, as `pyarrow.fs` names objects."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def name(self) -> str:
        """Last part of the prefix."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectUrl:
        """The prefix without its last part."""
        return ObjectUrl(self.bucket, self.key.rpartition("/")[0])

    def absolute(self) -> ObjectUrl:
        """Itself, as no working folder changes it."""
        return self


Location = Path | ObjectUrl
"""Of a run, a table or a part."""


def parse_location(text: str | Location) -> Location:
    """A folder, or an address in an object store, as it is typed on the command line.

    Args:
        text: a path, or ``s3://bucket/prefix``; what is a location already comes back as it is.

    Raises:
        LocationError: another scheme than s3, a bad name, or more in an address than bucket and prefix.
    """
    if isinstance(text, ObjectUrl):
        return text
    scheme, mark, rest = str(text).partition("://")
    if not mark:
        return Path(text)
    # The words must not repeat what follows: somebody may have put a secret into it.
    if scheme != "s3":
        raise LocationError(
            f"an address must start with s3://, but got {scheme}://. Give s3://BUCKET/PREFIX or a folder"
        )
    if re.search(r"[@?#]", rest):
        raise LocationError(
            "an address must be s3://BUCKET/PREFIX and no more: credentials come from the standard chain "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role), "
            "another endpoint from AWS_ENDPOINT_URL"
        )
    bucket, *segments = rest.rstrip("/").split("/")
    if not re.fullmatch(_BUCKET, bucket):
        raise LocationError(
            f"a bucket must have 3 to 63 small letters, digits, dots or hyphens, but got {bucket!r}: s3://BUCKET/PREFIX"
        )
    for segment in segments:
        if not re.fullmatch(_SEGMENT, segment) or set(segment) == {"."}:
            raise LocationError(
                f"a part of a prefix must have letters, digits, dots, underscores, equals signs or hyphens, "
                f"but got {segment!r}"
            )
    return ObjectUrl(bucket, "/".join(segments))
