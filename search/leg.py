"""A leg: the part of a trial that one unit runs, from its start or a rung to a rung or its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from search.checkpoint import Checkpoint


@dataclass(frozen=True)
class Leg:
    """What part of a trial is run; by default all of it, whatever others do.

    Attributes:
        start: where the trial stands; None for its beginning.
        until: the rung at which the leg ends; None for the end of the trial.
        thresholds: validation accuracy below which the trial stops, rung by rung; None where it goes on anyway.
    """

    start: Checkpoint | None = None
    until: int | None = None
    thresholds: tuple[float | None, ...] = ()

    def threshold(self, rung: int) -> float | None:
        """What the trial has to reach at a rung, if anything."""
        return self.thresholds[rung] if rung < len(self.thresholds) else None

    def ends_at(self, rung: int, accuracy: float) -> bool:
        """Whether it ends at a rung where the trial has this accuracy."""
        threshold = self.threshold(rung)
        return rung == self.until or (threshold is not None and accuracy < threshold)


class AtRung(Exception):  # noqa: N818
    """A leg ends at a rung; nothing is wrong.

    Attributes:
        rung: which one.
        step: outer step or generation of the last row.
        state: what the search needs to go on, tensors by name.
    """

    def __init__(self, rung: int, step: int, state: Mapping[str, Tensor]) -> None:
        super().__init__(f"at rung {rung}, step {step}")
        self.rung, self.step, self.state = rung, step, state
