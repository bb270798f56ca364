"""Shards: the pieces of an outer step that may be done by different processes, with the same result wherever.

How an outer step is cut is the configuration's choice and never that of the number of workers, because a number in
float32 may depend on the batch in which it was computed.  A shard is arrays in and arrays out; the function that does
one, a *body*, is known by its name, so that any process can find it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # what runs shards elsewhere needs none of it
    from search.setting import Setting

Arrays = Mapping[str, NDArray[Any]]
"""What a shard is made of, or what came out of it, by name."""

Body = Callable[["Setting", int, Arrays], Arrays]
"""Does one shard of an outer step: ``body(setting, outer_step, shard)``.

A pure function at the top level of a module: equal arguments give equal arrays, in whatever process.
"""


class Shards(Protocol):
    """Does the shards of one outer step after the other, for one trial at a time; one thread calls it.

    Results depend on the shards alone.  A process that dies costs time: its shard is done again.
    """

    def map(self, body: Body, setting: Setting, outer_step: int, shards: Sequence[Arrays]) -> list[Arrays]:
        """What the body makes of each shard, in the order of the shards.

        Args:
            body: does one shard.
            setting: of the trial.
            outer_step: outer step or generation.
            shards: the pieces.

        Raises:
            WorkersLostError: the processes that took up one of the shards died, again and again.
            Exception: what the body raises.
        """
        ...


class ShardsHere:
    """Does shards in this process, one after the other: the default, and what a debugger wants."""

    def map(self, body: Body, setting: Setting, outer_step: int, shards: Sequence[Arrays]) -> list[Arrays]:
        """See `Shards.map`."""
        return [body(setting, outer_step, shard) for shard in shards]


class WorkersLostError(RuntimeError):
    """A shard cannot be done, because whoever takes it up dies."""


def joined(found: Sequence[Arrays], name: str) -> NDArray[Any]:
    """An array that has one entry per candidate, put together again from all shards."""
    return np.concatenate([arrays[name] for arrays in found])


def body_name(body: Body) -> str:
    """The name by which another process finds the body, ``module:function``.

    Raises:
        ValueError: the body is not found by its name.
    """
    module, name = body.__module__, body.__qualname__
    if module == "__main__" or getattr(importlib.import_module(module), name, None) is not body:
        raise ValueError(f"a body must be a function at the top level of a module, but got {module}:{name}")
    return f"{module}:{name}"


def do_shard(body: str, config: str, device: str, outer_step: int, shard: Arrays) -> Arrays:
    """Do a shard in a process that knows nothing of the trial yet.

    Args:
        body: its name.
        config: the trial's configuration as JSON.
        device: where the trial's networks are trained.
        outer_step: outer step or generation.
        shard: the piece.
    """
    module, _, name = body.partition(":")
    function: Body = getattr(importlib.import_module(module), name)
    return function(_setting(config, device), outer_step, shard)


@lru_cache(maxsize=4)
def _setting(config: str, device: str) -> Setting:
    from search.config import TrialConfig
    from search.setting import Setting

    return Setting.of(TrialConfig.model_validate(json.loads(config)), device)
