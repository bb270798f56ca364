"""The sets that trials have ended with: which are worth judging, and reading them from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ldnn_core.arms import SetArms
from ldnn_core.layout import Mixing
from ldnn_core.network import Network
from ldnn_core.subnetwork import ActivationSpec
from search.attempts import counted
from search.schema import Status
from search.store import Store, StoreError, trial_key


@dataclass(frozen=True)
class FoundSet:
    """The set that a trial ended with.

    Attributes:
        trial_id: of the trial.
        spec: base, K and sizes.
        genomes: (K, P).
        row: the trial's row of ``trials``.
    """

    trial_id: str
    spec: ActivationSpec
    genomes: torch.Tensor
    row: Mapping[str, Any]

    def to(self, device: torch.device) -> FoundSet:
        """The same set on another device."""
        return replace(self, genomes=self.genomes.to(device))

    def arms(self, network: Network, root_seed: int, mixing: Mixing) -> SetArms:
        """Its arms in a network, where the genomes lie."""
        return SetArms(self.spec, self.genomes, network, root_seed, mixing)

    def learned_size(self, width: int, depth: int) -> tuple[int, int]:
        """Width and depth at which it was learned; where there were several, the nearest."""

        def nearest(name: str, value: int) -> int:
            learned: list[int] = self.row[f"{name}s"] or [self.row[name]]
            return min(learned, key=lambda one: (abs(one - value), one))

        return nearest("width", width), nearest("depth", depth)


def set_columns(found: FoundSet | None) -> dict[str, Any]:
    """Columns of networks that say of which set they are; None is for usual activations."""
    if found is None:
        return {"method": None, "estimator": None, "algorithm": None, "num_types": 1, "base": None}
    of_trial = {name: found.row[name] for name in ("method", "estimator", "algorithm")}
    return of_trial | {"num_types": found.spec.num_types, "base": found.spec.base}


def best_trials(store: Store, count: int) -> list[str]:
    """The trials whose sets are judged: the ``count`` of each method with the highest scores, and its best single type.

    Of equal ones those with the lower number come first.  The single type is for runs that have tried sets of one type
    and of several: the best set of one type of each method is judged too, as a rival of the mixes, unless it is among
    the best anyway.
    """
    if not count:
        return []
    columns = ["trial_id", "method", "number", "status", "score", "num_types", "copied_from"]
    # A copy would be judged as what it was copied from, network by network.
    rows = [row for row in store.read("trials", columns=columns).to_pylist() if row["copied_from"] is None]
    ended_well = [row for row in rows if row["status"] == Status.OK]
    ended_well.sort(key=lambda trial: (-trial["score"], trial["number"]))
    several = any(row["num_types"] != 1 for row in ended_well)

    def best_of(method: str, belongs: Callable[[Mapping[str, Any]], bool], most: int) -> tuple[str, ...]:
        return unique([row["trial_id"] for row in ended_well if row["method"] == method and belongs(row)])[:most]

    best: list[str] = []
    for method in sorted({row["method"] for row in rows}, reverse=True):  # gradient first
        best += best_of(method, lambda row: True, count)
        best += best_of(method, lambda row: several and row["num_types"] == 1, 1)
    return list(unique(best))


def found_set(store: Store, trial_id: str, dtype: torch.dtype = torch.float32) -> FoundSet:
    """Read a trial's final set.

    Args:
        store: the tables of the run.
        trial_id: of the trial.
        dtype: of the genomes; float64 is as they are stored.

    Raises:
        ValueError: no such trial has ended well; lists those that have.
        StoreError: its set is not there, or damaged.
    """
    # Only its own parts: to read those of all trials takes minutes when there are many, and each batch comes here.
    attempts = counted(store.read("trials", keys=store.attempts(trial_id)).to_pylist())
    if not attempts or attempts[0]["status"] != Status.OK:
        trials = store.read("trials", columns=["trial_id", "status"]).to_pylist()
        known = ", ".join(sorted({row["trial_id"] for row in trials if row["status"] == Status.OK})) or "none"
        raise ValueError(f"a trial must have ended well to have a set, but got {trial_id!r}; those that have: {known}")
    trial = attempts[0]
    if original := trial["copied_from"]:
        raise ValueError(f"only a trial that was run has a set, but {trial_id} is a copy of {original}: name that one")
    recorded, bad = store.read_checked("activations", keys=[trial_key(trial_id, trial["attempt"])])
    if bad:
        raise StoreError(f"the set of {trial_id} cannot be read: {bad[0]}. `ldnn resume` finds it again")
    types = sorted((row for row in recorded.to_pylist() if row["final"]), key=lambda row: row["type_index"])
    first = types[0]
    hidden, normalized = tuple(first["subnet_hidden"]), bool(first["normalized"])
    spec = ActivationSpec(first["base"], first["num_types"], hidden, first["subnet_scale"], normalized)
    if first["table_scale"] is not None:  # rows of earlier code do not say it, and had the default
        spec = replace(spec, table_range=first["table_range"], table_scale=first["table_scale"])
    return FoundSet(trial_id, spec, torch.tensor([row["genome"] for row in types], dtype=dtype), trial)


def unique(trial_ids: Sequence[str]) -> tuple[str, ...]:
    """The same ids, each once, in their order."""
    return tuple(dict.fromkeys(trial_ids))
