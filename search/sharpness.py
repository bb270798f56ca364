"""The curvature of judged networks as columns: of their own row when they are judged, of ``spectra`` in any case."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch

from ldnn_core.activations import Activation
from ldnn_core.curvature import measure_curvature
from ldnn_core.evaluation import TrainedGroup
from ldnn_core.gradient_noise import gradient_noise
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Network
from ldnn_core.randomness import generator
from ldnn_core.tasks import Rows
from search.config_judging import CurvatureConfig

Key = tuple[str, int]
"""Arm and seed."""


@dataclass
class Sharpness:
    """Measures networks that it is shown, in passing.

    Attributes:
        how: the table ``curvature`` of the configuration.
        seeds: of the networks that are measured.
        root_seed: of probes and rows.
        columns: (arm, seed) → columns of ``evaluations`` and, where they have the same name, of ``spectra``.
        spectra: (arm, seed) → further columns of ``spectra``.
    """

    how: CurvatureConfig
    seeds: Collection[int]
    root_seed: int
    columns: dict[Key, dict[str, Any]] = field(default_factory=dict)
    spectra: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def observe(self, group: TrainedGroup) -> None:
        """Measure those networks of a group that are asked for."""
        wanted = [index for index, seed in enumerate(group.seeds) if seed in self.seeds]
        if not wanted:
            return
        rows = self._rows(group.rows)
        for number, (arm, (activation, count)) in enumerate(zip(group.arms, group.activation.groups, strict=True)):
            first, last = wanted[0], wanted[-1] + 1
            parameters = group.parameters[number * count + first : number * count + last]
            found = self._measured(group.network, parameters, rows, activation.of_networks(slice(first, last)))
            for index in wanted:
                columns, spectrum = found[index - first]
                self.columns[arm, group.seeds[index]] = columns
                self.spectra[arm, group.seeds[index]] = spectrum

    def _rows(self, rows: Rows) -> Rows:
        """Some training rows, the same for all networks of a task."""
        if len(rows) <= self.how.rows:
            return rows
        drawn = torch.randperm(len(rows), generator=generator(self.root_seed, "rows"))[: self.how.rows]
        drawn = drawn.to(rows.x.device)
        return Rows(rows.x[drawn], rows.y[drawn])

    def _measured(
        self, network: Network, parameters: torch.Tensor, rows: Rows, activation: Activation
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """For each network the columns of both tables, and those of ``spectra`` alone."""
        how = self.how
        measure = measure_curvature
        if how.method == "pyhessian":
            from ldnn_core.pyhessian_curvature import measure_curvature as measure
        found = measure(
            network,
            parameters,
            rows.x,
            rows.y,
            activation,
            generator=generator(self.root_seed, "probes", *network.channels),
            probes=how.probes,
            lanczos_steps=how.lanczos_steps,
            eigenvalues=min(how.eigenvalues, how.lanczos_steps, network.num_params),
        )
        table = {
            "hessian_trace": found.trace,
            "hessian_trace_sem": found.trace_sem,
            "hessian_top_eigenvalue": found.eigenvalues[:, 0],
            "hessian_eigenvalues": found.eigenvalues,
            "near_zero_fraction": found.near_zero_fraction,
            "near_zero_threshold": found.near_zero_threshold,
        }
        if how.noise and isinstance(network, MlpSpec):  # in others rows may interact
            noise = gradient_noise(
                network,
                parameters,
                rows.x,
                rows.y,
                activation,
                generator=generator(self.root_seed, "noise", *network.channels),
                probes=how.probes,
            )
            table |= {"noise_alignment": noise.alignment, "noise_trace": noise.trace}
        density = {"smoothing": found.smoothing, "eigenvalues": found.grid, "density": found.density}
        both, own = _rows_of(table), _rows_of(density)
        said = {"curvature_method": how.method, "curvature_rows": len(rows)}
        return [(columns | said, spectrum) for columns, spectrum in zip(both, own, strict=True)]


def _rows_of(table: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Columns (N, ...) as a row per network, with None for what is not finite."""
    columns = {name: column.tolist() for name, column in table.items()}
    return [
        {name: _known(value) for name, value in zip(columns, values, strict=True)}
        for values in zip(*columns.values(), strict=True)
    ]


def _known(value: float | list[float]) -> float | list[float] | None:
    numbers = value if isinstance(value, list) else [value]
    return value if all(map(math.isfinite, numbers)) else None
