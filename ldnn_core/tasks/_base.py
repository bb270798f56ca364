"""What a task is: data in three parts, a loss, and a measure of success."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import Tensor

from ldnn_core.losses import Loss

RUNAWAY: Final = 10.0
"""States of a rolled-out orbit are kept within plus and minus this, in units of their spread, so that a network whose
orbit runs away has a large error and not an infinite one."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a data set.

    Attributes:
        x: inputs (R, D), or (R, C, H, W) for images, floating point; fully connected networks flatten them.
        y: classes (R,) int64, or targets (R, C) for regression.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on another device."""
        return Rows(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class TaskData:
    """The data of a task and how it is judged.

    Attributes:
        name: of the task.
        train: rows that networks are trained on during the search.
        val: rows that choose things: trials, learning rates.
        test: rows that judge, once.
        outputs: C, outputs of a network.
        loss: what networks are trained to make small.
        chance: skill of a guess, 0..1.
        metric: what a network is judged by: ``accuracy``, high is good, or ``loss``, low is good, for regression, whose
            targets have a mean of about 0 and a variance of about 1 over the training rows.
        orbits: true orbits (S, T + 1, D) that start where no training row lies, for tasks whose targets are the inputs
            a step later; None for others.
    """

    name: str
    train: Rows
    val: Rows
    test: Rows
    outputs: int
    loss: Loss
    chance: float
    metric: str = "accuracy"
    orbits: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input of one row: (D,), or (C, H, W) for images."""
        return tuple(self.train.x.shape[1:])

    @property
    def inputs(self) -> int:
        """D, numbers in the input of one row."""
        return math.prod(self.shape)

    def split(self, name: str) -> tuple[Rows, Rows]:
        """Rows to train on and rows to judge by.

        For ``"val"`` the training and the validation rows.  For ``"test"``, the final judgement, networks are
        trained on all rows but the test rows.

        Raises:
            ValueError: another name.
        """
        if name == "val":
            return self.train, self.val
        if name == "test":
            return Rows(_joined(self.train.x, self.val.x), _joined(self.train.y, self.val.y)), self.test
        raise ValueError(f"split must be val or test, but got {name!r}")

    def accuracy(self, z: Tensor, y: Tensor) -> Tensor:
        """Share of right answers: outputs (N, R, C), targets (R,) → (N,), 0..1."""
        return (z.argmax(dim=-1) == y).double().mean(dim=-1)

    def skill(self, z: Tensor, y: Tensor) -> Tensor:
        """How good outputs are, (N,) from 0 to 1: the accuracy, or for regression `skill_of_loss`."""
        if self.metric == "accuracy":
            return self.accuracy(z, y)
        return (1 - self.loss.value(z, y.unsqueeze(0)).double().sqrt()).clamp(0, 1).nan_to_num(nan=self.chance)

    def skill_of_loss(self, loss: float | None) -> float:
        """For regression, 1 - sqrt(mean squared error), at least 0, where targets have a variance of 1.

        So 1 is perfect, 0 no better than the mean of all targets, and 0.98 an error of 2 % of their spread.  The share
        of variance that is explained, 0.9996 then, would leave no room between a good and a very good forecast.

        Args:
            loss: mean squared error; None for a network that diverged.
        """
        return self.chance if loss is None else max(0.0, 1 - math.sqrt(loss))

    def rollout_error(self, predict: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Mean squared error (N,) of orbits that networks make by themselves; None where the task has no `orbits`.

        Each orbit starts at its true first state; from then on a network gets its own last output.  The error is the
        mean over orbits, steps and variables.

        Args:
            predict: inputs (N or 1, S, D) → outputs (N, S, D) of N networks.
        """
        if self.orbits is None:
            return None
        state, errors = self.orbits[:, 0].unsqueeze(0), []
        for truth in self.orbits[:, 1:].unbind(1):
            state = predict(state).clamp(-RUNAWAY, RUNAWAY)
            errors.append((state - truth).square().mean(dim=(1, 2)))
        return torch.stack(errors).mean(dim=0)

    def to(self, device: torch.device | str) -> TaskData:
        """The same task with its rows on another device."""
        orbits = None if self.orbits is None else self.orbits.to(device)
        # Together, so that they lie one after the other there too and `split` need not copy them.
        both, count = self.split("test")[0].to(device), len(self.train)
        train, val = Rows(both.x[:count], both.y[:count]), Rows(both.x[count:], both.y[count:])
        return replace(self, orbits=orbits, train=train, val=val, test=self.test.to(device))


class Task(Protocol):
    """Where the data of a task comes from.

    Loading leaves every global random generator as it was, gives the same numbers each time, and may be called
    by several processes at once.
    """

    def load(self, cache: Path) -> TaskData:
        """The data.

        Args:
            cache: folder for what is expensive to make; created when missing.

        Raises:
            DataError: the data cannot be had; the words say how to mend it.
        """
        ...


class DataError(ValueError):
    """Data is missing or damaged."""


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """The rows of both; not copied where they lie one after the other in memory, as `split_rows` leaves them."""
    end = first.data_ptr() + first.numel() * first.element_size()
    together = first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    if together and end == second.data_ptr() and first.is_contiguous() and second.is_contiguous():
        return first.as_strided((len(first) + len(second), *first.shape[1:]), first.stride())
    return torch.cat([first, second])


def split_rows(rows: Rows, fraction: float) -> tuple[Rows, Rows]:
    """The rows but the last ``fraction`` of them, and those last ones.

    Raises:
        ValueError: a part would be empty.
    """
    second = round(len(rows) * fraction)
    if not 0 < second < len(rows):
        raise ValueError(f"0 < fraction < 1 must leave rows in both parts, but got {fraction} of {len(rows)} rows")
    first = len(rows) - second
    return Rows(rows.x[:first], rows.y[:first]), Rows(rows.x[first:], rows.y[first:])
