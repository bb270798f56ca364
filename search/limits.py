"""What units may take: seconds, and memory.

Both end a unit with a status of its own and leave the run going.  A trial looks at its time after every step.  What
says nothing is past its `Deadline` some time: the driver then ends the process that does it (`search.tune`), and a
trial the worker that has its shard (`search.ray_shards`).  Work in the driver's own process nobody else can end: there
the driver ends with it, see `watched`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEGABYTE: Final = 2**20
_PAGES: Final = Path("/proc/self/statm")

GRACE_SECONDS: Final = 60.0
"""How much longer than it may a trial runs before it is ended from outside: it may be in the middle of a long step."""

LEAST_SHARD_SECONDS: Final = 120.0
"""No shard is given up before: the first of a process loads the data, and on a GPU compiles."""

SHARD_STEPS: Final = 10
"""How many times what a whole outer step may take on average a shard may take before it is given up."""

LAST_WORDS_SECONDS: Final = 20.0
"""What a process that ends with hung work waits for each thing that it still has to say."""

_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "status_alloc_failed")
"""Words of libraries that raise no MemoryError."""


class OutOfTime(RuntimeError):  # noqa: N818 - a status, not a mistake of the program
    """A trial has run for longer than it may; the words say how long, and what may help."""


@dataclass(frozen=True)
class Deadline:
    """When to give up on work that says nothing.

    Attributes:
        seconds: from its start on.
        key: of the configuration, that says so.
    """

    seconds: float
    key: str

    def passed(self, seconds: float) -> str:
        """What is to be said when it was given up after so many seconds."""
        return f"it did not answer for {seconds:.0f} s and was ended; {self.key} is exceeded"


def deadline_of(kind: str, *, trial_seconds: float, evaluation_seconds: float) -> Deadline | None:
    """When a unit is to be ended from outside; None to wait for ever.

    Args:
        kind: of the unit's payload.
        trial_seconds: ``search.max_trial_seconds``, at which a trial ends by itself as long as it comes to the end of a
            step.
        evaluation_seconds: ``resources.max_evaluation_seconds``; what judges or measures networks is one piece, and
            never ends by itself before.
    """
    if kind == "trial":
        return Deadline(trial_seconds + GRACE_SECONDS, "search.max_trial_seconds") if trial_seconds else None
    return Deadline(evaluation_seconds, "resources.max_evaluation_seconds") if evaluation_seconds else None


@dataclass(frozen=True)
class ShardLimits:
    """What the shards of a trial may take, each in its worker.

    Attributes:
        trial_seconds: that the whole trial may take; 0 for any time.
        memory: megabytes that a shard may ask for; 0 for any number.
    """

    trial_seconds: float = 0.0
    memory: int = 0

    def deadline(self, outer_steps: int) -> Deadline | None:
        """When to give up on a shard of a trial with so many outer steps; None to wait for ever.

        A trial within its time takes ``trial_seconds / outer_steps`` for an outer step, on average.
        """
        if not self.trial_seconds:
            return None
        seconds = max(LEAST_SHARD_SECONDS, SHARD_STEPS * self.trial_seconds / outer_steps)
        return Deadline(seconds, f"{SHARD_STEPS} * search.max_trial_seconds / outer steps")


@contextmanager
def watched(deadline: Deadline | None, expired: Callable[[str], None]) -> Iterator[None]:
    """Let another thread call something if this one is still in the block at the deadline.

    For work that only the end of the process can end.  Should the work end in that very moment, it waits for the
    call to return: either the block counts, or the call.

    Args:
        deadline: None for no watch.
        expired: called with words; it is expected to end the process.
    """
    if deadline is None:
        yield
        return
    moment, over = threading.Lock(), threading.Event()

    def look() -> None:
        with moment:
            if not over.is_set():
                expired(deadline.passed(deadline.seconds))

    timer = threading.Timer(deadline.seconds, look)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with moment:
            over.set()
        timer.cancel()


def briefly(call: Callable[..., object], *arguments: object) -> None:
    """Call something and wait for it, but not for ever: beside a thread that hangs, a lock may never come free."""
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    thread.join(LAST_WORDS_SECONDS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, whichever library raised it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)


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
