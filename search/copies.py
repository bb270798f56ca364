"""Trials that need not be run, because an earlier one of the same configuration and seed has been."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from search.attempts import counted
from search.config import TrialConfig, canonical
from search.provenance import config_hash
from search.schema import FINISHED, Status
from search.store import Store

Identity = Callable[[str, int, Mapping[str, Any]], str]
"""Method, number and parameters of a trial → what is equal for two trials whose rows would be equal."""

_OWN = ("created_at", "schema_version", "run_id", "trial_id", "attempt")


class Copies:
    """Which trials of a method repeat which: of those with one identity the first is run, the others are copies.

    Trials are added in the order of their numbers, so that this does not depend on when they end.  When an original
    fails, its copies of the same wave have failed with it; a later trial with its identity is run.

    Args:
        method: whose trials they are.
        identity: of a trial; None if no two are equal.
    """

    def __init__(self, method: str, identity: Identity | None) -> None:
        self._method = method
        self._identity = identity
        self._run: dict[str, str] = {}
        self._identities: dict[str, str] = {}
        self._originals: dict[str, str] = {}
        self._over: set[str] = set()
        self._waiting: dict[str, list[str]] = {}

    def add(self, trial: str, number: int, params: Mapping[str, Any]) -> None:
        """Take up a trial that has been sampled."""
        if self._identity is None:
            return
        identity = self._identity(self._method, number, params)
        original = self._run.setdefault(identity, trial)
        if original == trial:
            self._identities[trial] = identity
            return
        self._originals[trial] = original
        if original not in self._over:
            self._waiting.setdefault(original, []).append(trial)

    def original(self, trial: str) -> str | None:
        """The trial that this one is a copy of, if it is one."""
        return self._originals.get(trial)

    def is_ready(self, trial: str) -> bool:
        """Whether it is a copy of a trial that is over."""
        return self._originals.get(trial) in self._over

    def over(self, trial: str, status: Status) -> list[str]:
        """A trial that is no copy has ended; gives its copies that have waited for that."""
        self._over.add(trial)
        if status not in FINISHED and trial in self._identities:
            del self._run[self._identities[trial]]
        return self._waiting.pop(trial, [])


def copy_of(store: Store, original: str, trial: TrialConfig) -> dict[str, Any]:
    """The row of ``trials`` of a trial that ends as another did, without any work.

    Only the row is repeated, with nothing spent: steps and activations are the original's alone.

    Args:
        store: of the run.
        original: a trial with the same identity that is over, see `search.config.identity`.
        trial: the trial that is not run.

    Raises:
        ValueError: the original is not over.
    """
    rows = store.read("trials", keys=store.attempts(original)).to_pylist()
    if not rows:
        raise ValueError(f"only a trial that is over can be copied, but {original} has no row; `ldnn resume` runs it")
    [row] = counted(rows)
    return {name: value for name, value in row.items() if name not in _OWN} | {
        "number": trial.number,
        "outer_steps": 0,
        "inner_steps_total": 0,
        "started_at": datetime.now(UTC),
        "wall_seconds": 0.0,
        "params": json.dumps(trial.params, sort_keys=True),
        "config": json.dumps(canonical(trial), sort_keys=True),
        "config_hash": config_hash(canonical(trial)),
        "copied_from": original,
    }
