"""How large the signal is in judged networks before their first step: rows of ``initial_variance``.

Nothing is trained: a unit is one forward pass per network, over the first batch that the judged network of that seed
sees.  Training regimes and learning rates make no difference yet, so that networks are measured once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.conditions import condition_columns, condition_of
from search.config import RunConfig
from search.contest import FINAL, Contest, Ring
from search.evaluate import present
from search.found_set import found_set, set_columns
from search.recorder import Row
from search.schema import USUAL_TRIAL
from search.setting import load_task
from search.store import Store


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
    there = present(store, run, trial_id, table="initial_variance")
    return [
        shared
        | {"arm": one.arm, "seed": one.seed}
        | {"variance_in": list(one.variance_in), "variance_out": list(one.variance_out)}
        for one in measured
        if (FINAL, trial_id, width, depth, one.arm, one.seed, None) not in there
    ]
