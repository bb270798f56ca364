"""How soon networks with the arms of a set learn sinusoids of rising frequency: units and rows of ``spectral_bias``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import torch

from ldnn_core.activations import Activation, UsualActivation
from ldnn_core.arms import pure_names
from ldnn_core.losses import SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import make_optimizer
from ldnn_core.randomness import derive_seed
from ldnn_core.spectral_bias import measure_spectral_bias
from search.config import RunConfig
from search.found_set import found_set, set_columns
from search.plan import Unit
from search.recorder import Row
from search.schema import USUAL_TRIAL
from search.store import Store

HIDDEN: Final = (100,)
"""Every set is measured in the same network, so that sets can be compared; it need not be the one it was learned in."""
FREQUENCIES: Final = (1, 2, 3, 4, 6, 8)
STEPS: Final = 2000
SEEDS: Final = 8


def spectral_bias_units(store: Store, trial_ids: Sequence[str], usual: Sequence[str]) -> tuple[list[Unit], int]:
    """A unit for every set with an arm that is not measured yet, one for usual activations, and how many are done."""
    there = store.read("spectral_bias", columns=["trial_id", "arm", "seed"]).to_pylist()
    present = {(row["trial_id"], row["arm"], row["seed"]) for row in there}
    units, complete = [], 0
    for trial_id in (*trial_ids, USUAL_TRIAL):
        names = usual if trial_id == USUAL_TRIAL else ("mixed", *pure_names(found_set(store, trial_id).spec))
        missing = [arm for arm in names if any((trial_id, arm, seed) not in present for seed in range(SEEDS))]
        if missing:
            payload = {"kind": "spectral_bias", "trial_id": trial_id, "arms": missing}
            units.append(Unit.of(f"{trial_id}-spectral-bias", payload))
        elif names:
            complete += 1
    return units, complete


def measure_unit(run: RunConfig, store: Store, payload: Mapping[str, Any], device: str) -> list[Row]:
    """Fit the networks of one unit, with optimiser and learning rate of the evaluation."""
    trial_id, names = payload["trial_id"], payload["arms"]
    found = None if trial_id == USUAL_TRIAL else found_set(store, trial_id).to(torch.device(device))
    root = derive_seed(run.seed, "spectral bias")
    arms: Mapping[str, Activation]
    if found:
        own = found.arms(MlpSpec(1, HIDDEN, 1, SquaredError()), root, "within_layer")
        arms = {name: cast(Activation, own.arm(name)) for name in names}  # the mix and its types know no seeds
    else:
        arms = {name: UsualActivation(name) for name in names}
    how = run.evaluation
    measured = measure_spectral_bias(
        arms,
        range(SEEDS),
        hidden=HIDDEN,
        frequencies=FREQUENCIES,
        optimizer=make_optimizer(how.optimizer, momentum=how.momentum, decay=how.decay),
        lr=how.lr,
        steps=STEPS,
        root_seed=root,
        device=device,
    )
    shared = set_columns(found) | {
        "trial_id": trial_id,
        "width": HIDDEN[0],
        "depth": len(HIDDEN),
        "optimizer": how.optimizer,
        "lr": how.lr,
        "inner_steps": STEPS,
        "frequencies": list(FREQUENCIES),
    }
    return [shared | {"arm": one.arm, "seed": one.seed, "steps_to_fit": list(one.steps_to_fit)} for one in measured]
