"""Where a result comes from: the code, the libraries, the configuration and the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

_DISTRIBUTION: Final = "ldnn"
_CODE: Final = ("ldnn_core", "search", "jobs", "analysis", "pyproject.toml")
_NUMBERS: Final = ("ldnn_core", "search")
"""The packages on which the numbers of a run depend; the others start runs and read them."""
_LIBRARIES: Final = (
    "torch", "numpy", "numba", "ray", "optuna", "cmaes", "pyhessian", "mnist1d", "scikit-learn", "pydantic", "pyarrow",
    "pandas", "scipy", "safetensors",
)  # fmt: skip
_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_GIT_SECONDS: Final = 5.0


@cache
def code_version() -> tuple[str, bool]:
    """Version of the package with the git commit of its checkout, and whether the checkout's code was changed.

    Without a checkout, or without git, it is the version alone and False.  Asked once per process, so that a commit
    made while a process runs does not change what it says about itself.
    """
    try:
        version = metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        version = "0"
    # An installed package may lie inside somebody else's checkout, whose commit says nothing about it.
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != _CHECKOUT:
        return version, False
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return version, False
    return f"{version}+g{commit}", bool(_git("status", "--porcelain", "--", *_CODE))


@cache
def code_digest() -> str:
    """First 16 hexadecimal digits of the SHA-256 of the sources that numbers depend on, comments included.

    Unlike a commit it is there without git, is the same after a change of the documentation, and another one as soon
    as a file is edited.  Asked once per process, like `code_version`.
    """
    digest = hashlib.sha256()
    for path in sorted(path for package in _NUMBERS for path in (_CHECKOUT / package).rglob("*.py")):
        digest.update(f"{path.relative_to(_CHECKOUT).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, without importing them; absent ones left out."""
    return dict(_library_versions())


def config_hash(config: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a configuration as `canonical_json`.

    Raises:
        ValueError: the configuration has no canonical JSON.
    """
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]


def canonical_json(value: object) -> str:
    """The one JSON text of a value: keys sorted, no spaces, tuples as lists, ASCII.

    Raises:
        ValueError: it holds NaN or an infinity, a key that is not text, or something that JSON has no word for.
    """
    _check_keys(value)
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a configuration must be plain, finite JSON, but: {error}") from error


@cache
def hostname() -> str:
    """Name of this machine."""
    return platform.node()


def is_alive(pid: int) -> bool:
    """Whether there is a process of that id on this machine; what no process can have, as damaged files do, is none."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError, TypeError):
        return False
    return True


def _check_keys(value: object) -> None:
    # json would turn 1 and "1", or None and "null", into the same key.
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the keys of a configuration must be text, but got {key!r}")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


@cache
def _library_versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(*arguments: str) -> str | None:
    """What git says about this file's checkout; None if it cannot say."""
    # Variables such as GIT_DIR, set inside git's own hooks, would point at another checkout.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=_CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
