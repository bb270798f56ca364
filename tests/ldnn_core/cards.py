"""Activation cards that several tests share."""

from __future__ import annotations

from typing import Any

import torch

from ldnn_core.activations import ExactBank
from ldnn_core.card import ActivationCard, ObservedInputs, make_card
from ldnn_core.layout import mixed_types
from ldnn_core.subnetwork import ActivationSpec, initial_genomes

SPECS = {
    "sin": ActivationSpec("sin", 2, (8,)),
    "normalised": ActivationSpec("tanh", 3, (6, 5), 0.5, normalized=True),
    "kinked": ActivationSpec("hat", 2, (5,), 1.0, table_range=4.0, table_scale=32),
    "one type": ActivationSpec("zero", 1, (4,), 2.0),
}


def small_card(name: str = "sin", **told: Any) -> ActivationCard:
    """The card of a random set that bends."""
    spec = SPECS[name]
    genomes = 2 * initial_genomes(spec, 3, dtype=torch.float64)[0]
    return make_card(
        spec,
        genomes,
        observed_inputs=ObservedInputs(-2.5, 3.0, 0.999, 4),
        learned={"run_id": "made-up", "widths": [20, 50], "score": None},
        **told,
    )


def exact(card: ActivationCard, x: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """What the mixed set makes of x in float64, by its sub-networks."""
    last = x.double().movedim(axis, -1)
    types = mixed_types(last.shape[-1], card.spec.num_types).unsqueeze(0)
    bank = ExactBank(card.spec, card.genomes.unsqueeze(0))
    y = bank.value(last.reshape(1, -1, last.shape[-1]), types)
    return y.reshape(last.shape).movedim(-1, axis)
