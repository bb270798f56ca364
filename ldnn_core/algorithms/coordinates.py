"""Genomes as points in which one step size serves all weights.

A weight is measured in units of b · r, with b its initial bound 1/√fan_in and r the relative scale of its layer of
the sub-network, all 1 unless said otherwise: a step of the same length then moves each weight by the same share of
what it was drawn from.

Shapes: K types, P weights of a sub-network, n = K · P coordinates of a set, L layers of a sub-network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core import dense
from ldnn_core.subnetwork import ActivationSpec, initial_bounds, initial_genomes


def weight_units(spec: ActivationSpec, layer_scales: Sequence[float] = ()) -> Tensor:
    """The unit of each weight, (P,).

    Args:
        spec: sizes of the sub-network.
        layer_scales: r of each layer from the input on, L numbers; none for all 1.

    Raises:
        ValueError: not one scale per layer, or one that is not above 0 and finite.
    """
    units = initial_bounds(spec)
    if not len(layer_scales):
        return units
    layers = len(spec.layer_sizes)
    if len(layer_scales) != layers or not all(0 < scale < float("inf") for scale in layer_scales):
        raise ValueError(
            f"layer_scales must be {layers} numbers above 0, one per layer of the sub-network, or none, "
            f"but got {tuple(layer_scales)}"
        )
    return units * dense.spread(layer_scales, spec.layer_sizes)


@dataclass(frozen=True)
class Coordinates:
    """The way from points to genomes, and where a search starts.

    Attributes:
        units: of each weight, (P,) float32.
        start: the random set of the seed as a point, (n,) float64.
    """

    units: Tensor
    start: Tensor

    @staticmethod
    def of(spec: ActivationSpec, seed: int, layer_scales: Sequence[float] = ()) -> Coordinates:
        """The coordinates of a search.

        Raises:
            ValueError: layer scales that do not fit; see `weight_units`.
        """
        units = weight_units(spec, layer_scales)
        return Coordinates(units, (initial_genomes(spec, seed)[0] / units).double().flatten())

    def genomes(self, points: Tensor) -> Tensor:
        """Points (..., n) as genomes (..., K, P) in float32."""
        return points.to(torch.float32).view(*points.shape[:-1], -1, len(self.units)) * self.units
