"""Generated data in a cache: made once, kept as ``.npz`` with a checksum, never unpickled."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from ldnn_core.tasks._base import DataError

Arrays = dict[str, np.ndarray]


def cached(cache: Path, stem: str, names: Sequence[str], generate: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache, generated when they are not there; only one of several processes generates them.

    Args:
        cache: folder, created when missing.
        stem: of the file; it says all that the arrays depend on.
        names: of the arrays.
        generate: makes them.

    Raises:
        DataError: the cached file is damaged.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{stem}.npz"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            arrays = generate()
            partial = cache / f"{stem}.partial"
            with partial.open("wb") as file:
                np.savez(file, checksum=np.array(_checksum(arrays, names)), **arrays)  # type: ignore[arg-type]
            partial.rename(path)
        return _read(path, names)


def _checksum(arrays: Arrays, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _read(path: Path, names: Sequence[str]) -> Arrays:
    way_out = f"delete {path} and run again: it is generated anew"
    try:
        # opened here, because numpy leaves a damaged file open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
            expected = str(file["checksum"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the cached data set cannot be read ({error}); {way_out}") from error
    if _checksum(arrays, names) != expected:
        raise DataError(f"the cached data set does not match its checksum; {way_out}")
    return arrays
