"""Files that are there whole or not at all, that nothing overwrites, and that outlive a crash.

A file is written aside, flushed to the disk and only then given its name.  Every step in between is a named crash
point, so that a test can end the process exactly there and look at what is left.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

CRASH_POINTS: Final = ("opened", "written", "synced", "linked", "unlinked", "published")
"""The steps of `place_once`, in order; each names what has just been done."""

CRASH_EXIT: Final = 86
"""Exit status of a process that a crash point ended."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_WAYS_OUT: Final[dict[int, str]] = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "The disk, a quota or a limit on file sizes is full: free some space, then `ldnn resume` the run",
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTDIR, errno.ESTALE),
        "A folder of the run is missing: put it back, then `ldnn resume` the run, or start a new one",
    ),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM),
        "This process may not do that there: make the run folder readable and writable, then `ldnn resume` the run",
    ),
}
_OF_A_NETWORK: Final = (
    "See to the network, the bucket, the endpoint (AWS_ENDPOINT_URL) and the credentials, then `ldnn resume` the run"
)


class StoreError(RuntimeError):
    """A run folder could not be read or written; the words say what, where and the way out."""


def describe_failure(action: str, error: OSError) -> str:
    """A sentence for people: what was tried, why it failed, and what to do about it."""
    # What an object store answers has no number, only words.
    usual = _OF_A_NETWORK if "AWS Error" in str(error) else "See to the disk, then `ldnn resume` the run"
    way_out = _WAYS_OUT.get(error.errno or 0, usual)
    return f"could not {action}: {error.strerror or error}. {way_out}."


@contextmanager
def doing(action: str) -> Iterator[None]:
    """Say in words what the system refuses inside.

    Args:
        action: completes "could not ...".

    Raises:
        StoreError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(describe_failure(action, error)) from error


def crash_point(name: str, where: str) -> None:
    """End this process here if the environment asks for it; otherwise do nothing.

    ``LDNN_CRASH_POINT=linked`` ends it at the first step of that name, ``LDNN_CRASH_POINT=linked@steps/part-a`` at
    the first one whose ``where`` starts with ``steps/part-a``.  Nothing is flushed or cleaned up, as under SIGKILL.
    """
    wanted, _, prefix = os.environ.get("LDNN_CRASH_POINT", "").partition("@")
    if wanted == name and where.startswith(prefix):
        os._exit(CRASH_EXIT)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk.

    Raises:
        OSError: the folder is gone or the disk failed.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network and user-space file systems keep no list to flush and say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def place_once(data: bytes, target: Path, *, staging: Path) -> bool:
    """Publish a file durably, unless one of that name is there already.

    Any number of processes may try at the same time: exactly one of them places its file.  When this returns, a
    file of that name, this one or the earlier one, is whole and on the disk.

    Args:
        data: the whole contents.
        target: the name to publish under; its folder must exist.
        staging: an existing folder on the same file system that no reader looks into.

    Returns:
        True if the file is new, False if an earlier one stands.

    Raises:
        StoreError: the disk is full, or a folder is gone or not writable.  Nothing is half-published.
    """
    where = f"{target.parent.name}/{target.name}"
    aside = staging / f"{target.parent.name}-{target.name}.{uuid.uuid4().hex}"
    try:
        with doing(f"publish {target.name} in {target.parent}"):
            _write(aside, data, where)
            is_new = _give_name(aside, target)
            crash_point("linked", where)
            aside.unlink(missing_ok=True)
            crash_point("unlinked", where)
            # Also when another process was first: it may have died before it could flush the name.
            sync_folder(target.parent)
            crash_point("published", where)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    return is_new


def _write(path: Path, data: bytes, where: str) -> None:
    with path.open("xb", buffering=0) as file:
        crash_point("opened", where)
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        crash_point("written", where)
        os.fsync(file.fileno())
    crash_point("synced", where)


def _give_name(aside: Path, target: Path) -> bool:
    """Make ``target`` the name of the file ``aside``; False if the name is taken."""
    try:
        os.link(aside, target)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost: then the name is taken by ourselves.
        return os.path.samestat(os.lstat(target), os.lstat(aside))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_checked(aside, target)
    return True


def _rename_checked(aside: Path, target: Path) -> bool:
    """`_give_name` where there are no hard links: look, then rename, under a lock that dies with its holder."""
    import fcntl

    handle = os.open(aside.parent / ".rename.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(target):
            return False
        aside.rename(target)
        return True
    finally:
        os.close(handle)
