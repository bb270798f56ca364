"""Checkpoints that a long trial leaves on its way, so that another attempt goes on from the last of them.

Two files of a trial are kept: should the last be damaged, the one before it is taken.  Keeping one may fail, because of
a full disk for instance; that costs time later and must not cost the trial now, so it is only noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from search import checkpoint
from search.checkpoint import Checkpoint
from search.durable import StoreError
from search.location import Location

if TYPE_CHECKING:
    from torch import Tensor

KEPT: Final = 2
"""Files of a trial between rungs."""

State = Mapping[str, "Tensor"]
"""What a search needs to go on, tensors by name."""


@dataclass
class Keeper:
    """Keeps a trial's checkpoints, one every so many seconds.

    Attributes:
        root: the run.
        trial_id: of the trial.
        config_hash: of its configuration.
        seconds: between two checkpoints; 0 for none.
        guard: asked before each one; what it raises ends the trial.
        clock: what time it is.
        failure: why the last one could not be kept; empty if it could.
    """

    root: Location
    trial_id: str
    config_hash: str
    seconds: float
    guard: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    failure: str = ""
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.clock() + self.seconds

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return self.seconds > 0 and self.clock() >= self._next

    def keep(self, stands: Checkpoint) -> None:
        """Place a checkpoint, and remove what it makes superfluous."""
        self._next = self.clock() + self.seconds
        self.guard()
        try:
            checkpoint.save(self.root, self.trial_id, self.config_hash, stands)
        except StoreError as error:
            self.failure = str(error)
            return
        self.failure = ""
        checkpoint.remove_older(self.root, self.trial_id, self.config_hash, keep=KEPT)
