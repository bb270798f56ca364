"""Learning rates that change while a network trains: factors of its learning rate by inner step.

With e = ⌊step / epoch⌋ the epoch, T all steps and t the step within the current cycle of length C:

    constant    1
    step        γ^⌊e / stepsize⌋
    cosine      floor + (1 - floor) (1 + cos(π step / T)) / 2
    restarts    the same over cycles, with t and C for step and T (Loshchilov & Hutter 2017, "SGDR", eq. 5); each cycle
                is `growth` times as long as the one before
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Literal, get_args

ScheduleName = Literal["constant", "step", "cosine", "restarts"]


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes.

    Attributes:
        kind: the formula above.
        steps: T, inner steps in all.
        epoch: inner steps of an epoch.
        gamma: γ of ``step``.
        stepsize: epochs between two changes of ``step``, or of the first cycle of ``restarts``.
        growth: factor of the length from cycle to cycle of ``restarts``.
        floor: the lowest factor of ``cosine`` and ``restarts``.

    Raises:
        ValueError: an unknown kind, or lengths below 1.
    """

    kind: ScheduleName = "constant"
    steps: int = 1
    epoch: int = 1
    gamma: float = 0.1
    stepsize: int = 1
    growth: int = 1
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleName):
            raise ValueError(f"kind must be one of {', '.join(get_args(ScheduleName))}, but got {self.kind!r}")
        if min(self.steps, self.epoch, self.stepsize, self.growth) < 1:
            raise ValueError(
                f"steps, epoch, stepsize and growth must be at least 1, but got (steps={self.steps}, "
                f"epoch={self.epoch}, stepsize={self.stepsize}, growth={self.growth})"
            )

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at a step, from 0 on."""
        if self.kind == "constant":
            return 1.0
        if self.kind == "step":
            return self.gamma ** (step // self.epoch // self.stepsize)
        within, length = (step, self.steps) if self.kind == "cosine" else self._place(step)
        return self.floor + (1 - self.floor) * (1 + cos(pi * within / length)) / 2

    def _place(self, step: int) -> tuple[int, int]:
        """Steps since the last restart, and the length of the current cycle."""
        length = self.stepsize * self.epoch
        while step >= length:
            step, length = step - length, length * self.growth
        return step, length
