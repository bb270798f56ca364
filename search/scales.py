"""Sizes of a recipe: the full one, smaller ones that it names itself, and one that only shows that it works.

A recipe may have tables ``[scales.NAME]`` that are laid over it with ``--set scale=NAME``.  Every recipe has ``full``,
nothing changed, and ``smoke``: all that costs time cut down to `SMOKE`, and then what its own ``[scales.smoke]`` says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from search.config_errors import ConfigError, Problem
from search.config_keys import nearest, shown

FULL: Final = "full"
SMOKE_NAME: Final = "smoke"

SMOKE: Final[Mapping[str, Mapping[str, int]]] = {
    "inner": {"steps": 5, "loss_window": 5},
    "gradient": {"outer_steps": 2, "classifiers": 2, "pairs": 2},
    "evolution": {"generations": 2, "population": 4, "elites": 1, "tournament": 2, "classifiers": 1},
    "search": {"trials": 1, "wave": 1, "startup_trials": 1, "records": 2, "probe_networks": 1, "score_networks": 2},
    "evaluation": {"best": 1, "seeds": 2, "epochs": 2, "tuning_seeds": 1, "lr_trials": 2},
    "curvature": {"networks": 1, "rows": 100, "probes": 4, "lanczos_steps": 10},
}
"""The most of each number that a smoke run has; lists of sizes and learning rates keep their first two entries."""

_LISTS: Final = {"evaluation": ("widths", "depths", "lrs"), "objective": ("widths", "depths")}

Merge = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


def scaled(table: Mapping[str, Any], name: object, source: str, merge: Merge, defaults: Mapping[str, Any]) -> Any:
    """A recipe at one of its scales, without its tables of scales.

    Args:
        table: the recipe.
        name: of the scale.
        source: what the recipe is, for the words.
        merge: lays a table over another.
        defaults: of all tables, for numbers that the recipe does not name.

    Raises:
        ConfigError: there is no such scale.
    """
    result = copy.deepcopy(dict(table))
    own = result.pop("scales", {})
    if not isinstance(own, dict) or not all(isinstance(value, dict) for value in own.values()):
        raise ConfigError([Problem("scales", shown(own), "must have a table for each scale: [scales.NAME]")], source)
    known = [*dict.fromkeys([FULL, *own, SMOKE_NAME])]
    if name not in known:
        near = nearest(name, known) if isinstance(name, str) else None
        hint = f"Did you mean {near!r}?" if near else ""
        raise ConfigError([Problem("scale", shown(name), f"must be one of {', '.join(known)}", hint)], source)
    if name == SMOKE_NAME:
        result = _smoke(result, defaults)
    changes = own.get(name, {})
    return merge(result, changes) if changes else result


def _smoke(table: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    for section, limits in SMOKE.items():
        inside = table.setdefault(section, {})
        if not isinstance(inside, dict):
            continue  # what is wrong with it is said when all is checked
        for key, most in limits.items():
            value = inside.get(key, defaults.get(section, {}).get(key))
            if isinstance(value, int) and value > most:
                inside[key] = most
    for section, keys in _LISTS.items():
        inside = table.get(section)
        if isinstance(inside, dict):
            inside.update({key: inside[key][:2] for key in keys if isinstance(inside.get(key), list)})
    return table
