"""What Ray needs around it: its environment, a token, a scratch folder, and a look at a cluster before joining it.

Nothing here imports Ray: most of it must be in place before that import.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from filelock import FileLock, Timeout

from search.booking import Booking

CONNECT_SECONDS: Final = 20.0
"""How long a cluster may take to answer; with what comes around it, a wrong address fails within 30 s."""

_TCP_SECONDS: Final = 5.0

_SCRATCH_PREFIX: Final = "ldnn-ray-"

SCRATCH_VARIABLE: Final = "LDNN_RAY_SCRATCH"
"""In the environment of every process of a local Ray: the scratch folder of the driver that started it."""
_LONGEST_SCRATCH: Final = 40
"""Ray puts sockets some 60 characters below its folder, and the path of a socket has at most 107."""

_AT_IMPORT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints boxes even when asked to be quiet; the old one does not
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals belong to the caller, who asks for a stop
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are in the outcomes
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's own state is never read: the results store is the record
    "TUNE_WARN_THRESHOLD_S": "60",
}


class ClusterError(RuntimeError):
    """Ray cannot be used as asked: nobody answers, or what is asked for is not there."""


def set_import_environment() -> None:
    """Set what Ray and Tune read when they are imported; what the user has set stays."""
    for name, value in _AT_IMPORT.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which child processes inherit, and put everything back afterwards."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def limit_threads(threads: int) -> None:
    """Let mathematical libraries that this process loads later use so many threads."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)


def import_root(module: ModuleType) -> str | None:
    """The folder from which a module is imported by its full name; None for one without a file."""
    if not getattr(module, "__file__", None):
        return None
    path = Path(str(module.__file__)).resolve()
    inside = path.parent.parent if path.name == "__init__.py" else path.parent
    return str(inside.parents[module.__name__.count(".") - 1] if "." in module.__name__ else inside)


def python_path(*modules: ModuleType) -> str:
    """A PYTHONPATH with which other processes can import these modules, wherever they are started."""
    roots = [root for module in modules if (root := import_root(module))]
    return os.pathsep.join(dict.fromkeys([*roots, *filter(None, [os.environ.get("PYTHONPATH")])]))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A short-named private folder for Ray's session and Tune's files, removed at the end.

    A driver that is killed cannot remove its folder, so the next one does: the folder of a living driver is
    known by its lock, which ends with the process.
    """
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_SCRATCH - len(_SCRATCH_PREFIX) - 8:
        base = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=base))
    lock = FileLock(folder / "driver.lock")
    try:
        with lock:
            yield folder
    finally:
        _remove(folder)


def _remove_abandoned(base: Path) -> None:
    for folder in base.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            status = folder.lstat()
            # A minute's grace: a folder is there a moment before its lock.
            if folder.is_symlink() or status.st_uid != os.getuid() or time.time() - status.st_mtime < 60:
                continue
            with FileLock(folder / "driver.lock", timeout=0):
                end_left_behind(folder)
                shutil.rmtree(folder, ignore_errors=True)


def end_left_behind(folder: Path) -> list[int]:
    """End what a driver that was killed has left running: processes whose environment names its scratch folder.

    Ray ends its workers itself when their driver is gone, but not its agents.  Only processes of this user are looked
    at, and nothing where the system does not show environments (``/proc``).
    """
    mark, ended = f"\0{SCRATCH_VARIABLE}={folder}\0".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, ValueError):
            if environ.stat().st_uid == os.getuid() and mark in b"\0" + environ.read_bytes():
                os.kill(int(environ.parent.name), signal.SIGKILL)
                ended.append(int(environ.parent.name))
    return ended


def _remove(folder: Path) -> None:
    # Ray's processes end a moment after they are told to, and write logs until then.
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def token_environment(folder: Path) -> dict[str, str]:
    """Environment with a token that nobody else can read, unless the user has one of their own.

    Ray would make a token that others can read (mode 0644), in the home folder.
    """
    own = Path.home() / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH") or own.exists():
        return {}
    path = folder / "auth_token"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(secrets.token_hex(32))
    return {"RAY_AUTH_TOKEN_PATH": str(path)}


@contextlib.contextmanager
def kept_signal_handlers() -> Iterator[dict[int, Any]]:
    """Put the handlers of signals back at the end; gives those of now, to put back earlier what Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    try:
        yield handlers
    finally:
        restore_signal_handlers(handlers)


def restore_signal_handlers(handlers: Mapping[int, Any]) -> None:
    """Install handlers again; those that were not installed from Python cannot be."""
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)


_LOOK = """
import json, sys
from ray._private import services
from ray._private.authentication import authentication_token_setup as token
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    token.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    address = services.canonicalize_bootstrap_address_or_die(sys.argv[1])
    nodes = GcsClient(address=address).get_all_node_info(timeout=5).values()
    print(json.dumps([dict(node.resources_total) for node in nodes if node.state == 0]))
except AuthenticationError:
    print(json.dumps("token"))
"""
"""Asks the one process of a cluster that knows all nodes; a look leaves nothing behind there."""


def cluster_nodes(address: str) -> list[dict[str, float]]:
    """Resources of each living node of the cluster at an address.

    Another process looks, since Ray waits two minutes for a cluster that does not answer and then ends the
    process that asked.

    Raises:
        ClusterError: the address has the wrong form, no cluster answers there in time, or it refuses the token.
    """
    way_out = (
        "start one with `ray start --head`, or give the address of one that runs, with its token (RAY_AUTH_TOKEN_PATH) "
        "and on one of its nodes, or leave the address out to use this machine alone"
    )
    host, _, port = address.rpartition(":")
    if address != "auto":
        if "://" in address or not host or not port.isdecimal():
            raise ClusterError(f"address must be 'auto' or host:port, but got {address!r}; {way_out}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TCP_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ClusterError(f"nobody answers at {address} ({error}); {way_out}") from None
    try:
        look = subprocess.run(
            [sys.executable, "-c", _LOOK, address],
            capture_output=True,
            text=True,
            timeout=CONNECT_SECONDS - _TCP_SECONDS,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        silent = f"what listens at {address} does not answer as a Ray cluster"
        if address == "auto":
            silent = "no Ray cluster answers on this machine"
        raise ClusterError(f"{silent}; {way_out}") from None
    if look.returncode != 0 or not look.stdout.strip():
        words = look.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ClusterError(f"the Ray cluster at {address} cannot be joined ({words[0]}); {way_out}")
    answer: list[dict[str, float]] | str = json.loads(look.stdout.strip().splitlines()[-1])
    if isinstance(answer, str):
        raise ClusterError(
            f"the Ray cluster at {address} refuses the token of this process, or there is none; set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a copy of the file that the cluster was started with"
        )
    return answer


def check_resources(nodes: list[dict[str, float]], booking: Booking, *, workers: int) -> None:
    """Refuse what could never be scheduled, which Tune would wait for.

    Args:
        nodes: resources of each.
        booking: of each unit.
        workers: units at the same time.

    Raises:
        ClusterError: no node has enough cores or GPUs for one bundle, the cluster has too few cores for one unit, or
            it has too few GPUs for all units that run at the same time.
    """
    threads, spread = booking.threads, booking.workers
    cores = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    if threads > cores:
        raise ClusterError(
            f"threads <= cores of one node must hold, but got (threads={threads}, cores={cores:g}); "
            "ask for fewer threads"
        )
    largest = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    if booking.gpus > largest or (not spread and workers * booking.gpus > gpus):
        raise ClusterError(
            "workers * gpus_per_trial <= GPUs and gpus_per_trial <= GPUs of one node must hold, but got "
            f"(workers={workers}, gpus_per_trial={booking.gpus:g}, GPUs={gpus:g}, GPUs of one node={largest:g}); "
            "ask for fewer workers, for a part of a GPU per trial, or for none (resources.gpus_per_trial=0)"
        )
    if booking.gpus_per_worker > largest or workers * booking.all_gpus > gpus:
        raise ClusterError(
            "workers * (gpus_per_trial + workers_per_trial * gpus_per_worker) <= GPUs and gpus_per_worker <= GPUs of "
            f"one node must hold, but got (workers={workers}, gpus_per_trial={booking.gpus:g}, "
            f"workers_per_trial={spread}, gpus_per_worker={booking.gpus_per_worker:g}, GPUs={gpus:g}, "
            f"GPUs of one node={largest:g}); ask for fewer workers, fewer workers_per_trial, or parts of a GPU"
        )
    if not booking.fits(nodes):
        counts = ", ".join(f"{node.get('CPU', 0.0):g}" for node in nodes)
        raise ClusterError(
            "a trial's 1 + workers_per_trial processes of `threads` cores each must fit into the cluster, but got "
            f"(workers_per_trial={spread}, threads={threads}, cores of the nodes={counts}); "
            "ask for fewer workers_per_trial or threads"
        )
