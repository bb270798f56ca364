"""What a trial may take: seconds, and memory.

Both end a trial with a status of its own and leave the run going.  The time is looked at after every step; a trial that
does not come to the end of a step is ended by the driver (`search.tune`), or by nobody when it runs in the driver's own
process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEGABYTE: Final = 2**20
_PAGES: Final = Path("/proc/self/statm")


class OutOfTime(RuntimeError):  # noqa: N818 - a status, not a mistake of the program
    """A trial has run for longer than it may; the words say how long, and what may help."""


def require_time(seconds: float, limit: float, where: str) -> None:
    """Refuse to go on when the time is over.

    Args:
        seconds: that the trial has taken, earlier attempts that it goes on from included.
        limit: seconds that it may take; 0 for any number.
        where: what is done so far, for the words.

    Raises:
        OutOfTime: the limit is exceeded.
    """
    if limit and seconds > limit:
        raise OutOfTime(
            f"{where}: {seconds:.1f} s are more than search.max_trial_seconds = {limit:g}; "
            "fewer steps, or a higher limit, may help"
        )


@contextmanager
def memory_limited(megabytes: int) -> Iterator[None]:
    """Let this process take so much more memory than it has now; what asks for more gets a MemoryError.

    The limit is on addresses (RLIMIT_AS), which the system refuses to give out beyond it, so that nothing has to be
    watched.  Where the system has no such limit, or a stricter one is set already, nothing is changed.

    Args:
        megabytes: of 2^20 bytes; 0 for no limit.
    """
    used = _addresses() if megabytes else None
    if used is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + megabytes * MEGABYTE
    if any(limit != resource.RLIM_INFINITY and limit <= wanted for limit in (soft, hard)):
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _addresses() -> int | None:
    """Bytes of addresses that this process has; None where the system does not say."""
    try:
        import resource

        return int(_PAGES.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return None
