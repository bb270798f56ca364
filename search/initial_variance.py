"""How large the signal is in judged networks before their first step: units and rows of ``initial_variance``.

Nothing is trained: a unit is one forward pass per network, over the first batch that the judged network of that seed
sees.  Training regimes and learning rates make no difference yet, so that networks are measured once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from search.conditions import Wanted, condition_columns, condition_of, difference, judged_under, rows_under, title
from search.config import RunConfig
from search.contest import Contest, Ring
from search.found_set import found_set, set_columns
from search.plan import Unit
from search.recorder import Row
from search.schema import USUAL_TRIAL
from search.setting import load_task
from search.store import Store

Key = tuple[str, str, int, int, int]
"""trial_id, arm, width, depth, seed."""


def initial_variance_units(
    run: RunConfig,
    store: Store,
    arms: Mapping[str, Sequence[str]],
    *,
    sizes: Sequence[tuple[int, int]],
    seeds: int,
    wanted: Wanted,
) -> tuple[list[Unit], int]:
    """A unit for every set and size with a network that is not measured yet, and how many are done.

    Args:
        run: the run's configuration.
        store: what has been measured.
        arms: trial → names of its arms, those of usual activations as one of the trials.
        sizes: widths and depths.
        seeds: networks per arm and size.
        wanted: on which tasks and in which networks.
    """
    units, complete = [], 0
    sets = tuple(trial_id for trial_id in arms if trial_id != USUAL_TRIAL)
    for condition, trial_ids in judged_under(run, wanted, sets):
        if condition.regime != run.regime:
            continue
        there = _present(store, condition)
        for trial_id, (width, depth) in product(trial_ids, sizes):
            names = arms.get(trial_id, ())
            missing = [
                (arm, seed)
                for arm, seed in product(names, range(seeds))
                if (trial_id, arm, width, depth, seed) not in there
            ]
            if not missing:
                complete += bool(names)
                continue
            payload = {
                "kind": "initial_variance",
                "trial_id": trial_id,
                "width": width,
                "depth": depth,
                "seeds": sorted({seed for _, seed in missing}),
                "arms": [arm for arm in names if any(arm == one for one, _ in missing)],
            } | difference(condition, run)
            units.append(Unit.of(f"{trial_id}-{title(condition, run)}-w{width}-d{depth}-initial-variance", payload))
    return units, complete


def measure_initial_unit(run: RunConfig, store: Store, payload: Mapping[str, Any], device: str) -> list[Row]:
    """Measure the networks of one unit; rows of ``initial_variance`` that are not there yet."""
    trial_id, width, depth = payload["trial_id"], payload["width"], payload["depth"]
    run = condition_of(payload, run)
    data = load_task(run.task, device)
    found = None if trial_id == USUAL_TRIAL else found_set(store, trial_id).to(data.train.x.device)
    ring = Ring(run.ldnn.architecture, run.ldnn.mixing, width, depth)
    measured = Contest.of(run, data, ring, payload["arms"], found).initial_variances(payload["seeds"])
    shared = set_columns(found) | condition_columns(run, "initial_variance")
    shared |= {"trial_id": trial_id, "width": width, "depth": depth, "batch_size": run.evaluation.batch_size}
    there = _present(store, run, trial_id)
    return [
        shared
        | {"arm": one.arm, "seed": one.seed}
        | {"variance_in": list(one.variance_in), "variance_out": list(one.variance_out)}
        for one in measured
        if (trial_id, one.arm, width, depth, one.seed) not in there
    ]


def _present(store: Store, run: RunConfig, trial_id: str | None = None) -> frozenset[Key]:
    """The networks that are measured under one condition, or those of one trial."""
    rows = rows_under(run, store, "initial_variance", ["trial_id", "arm", "width", "depth", "seed"], trial_id)
    return frozenset((row["trial_id"], row["arm"], row["width"], row["depth"], row["seed"]) for row in rows)
