"""What an evolution algorithm is."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Everything an algorithm remembers, its random generator included, as tensors by name."""


class Algorithm(Protocol):
    """Proposes activation sets and learns how well they did.

    `ask` and `tell` are called in turn, by one thread.  Losses are minimised; one that is not finite counts as
    worse than all others, and a generation without a finite loss teaches nothing.  An algorithm restored from its
    state goes on as if it had never stopped, bit for bit; its numbers do not depend on how many threads there are.

    Shapes: Q candidates in a generation, K types, P weights of a sub-network.
    """

    def ask(self) -> Tensor:
        """The candidates of this generation, (Q, K, P)."""
        ...

    def tell(self, losses: Tensor) -> None:
        """The loss of each candidate of the last `ask`, (Q,)."""
        ...

    def incumbent(self) -> Tensor:
        """The set the algorithm would stand by now, (K, P): the best of the last generation, or the mean."""
        ...

    def step_size(self) -> float:
        """The typical length of a mutation, for the record."""
        ...

    def state(self) -> State:
        """Everything needed to go on."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a state that `state` gave."""
        ...


class Remembering(ABC):
    """An algorithm whose state is a generator and tensors, which it replaces and never changes; abstract."""

    _remembered: ClassVar[tuple[str, ...]]
    """Names in the state; the attributes have an underscore before them."""
    _generator: torch.Generator

    def state(self) -> State:
        """Everything needed to go on."""
        tensors: State = {name: getattr(self, f"_{name}").clone() for name in self._remembered}
        return tensors | {"generator": self._generator.get_state()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        for name in self._remembered:
            setattr(self, f"_{name}", state[name].clone())
        self._generator.set_state(state["generator"])


def check_losses(losses: Tensor, candidates: int) -> Tensor:
    """The losses with NaN as infinity.

    Raises:
        ValueError: not one loss per candidate.
    """
    if tuple(losses.shape) != (candidates,):
        raise ValueError(f"one loss for each of {candidates} candidates is needed, but got shape {tuple(losses.shape)}")
    return losses.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("inf"))
